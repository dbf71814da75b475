"""Reports, a function of the table of scores."""
