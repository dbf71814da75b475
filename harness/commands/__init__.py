"""Commands of the command line, one verb a module."""
