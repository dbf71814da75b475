"""Sentence embeddings and the on-device language model."""
