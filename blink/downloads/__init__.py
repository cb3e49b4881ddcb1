"""Downloads of the published models and data: the standard library only."""
