"""Commands of the command line, one verb a room."""
