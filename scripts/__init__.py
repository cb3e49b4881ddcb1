"""Scripts that make tables and check what the pages say; each runs by its path."""
