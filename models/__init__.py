"""One file per system, and the backbones that they share."""
