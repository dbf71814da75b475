"""The verbs of the command line: one file each, one typed function that calls and prints."""
