"""Metrics on plain arrays, each with its chance level and interval."""
