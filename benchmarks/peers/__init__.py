"""The same work as others run it."""
