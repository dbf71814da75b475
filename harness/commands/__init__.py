"""Verbs of the command line, one room each."""
