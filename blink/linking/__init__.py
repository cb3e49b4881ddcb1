"""From texts to links: the `Linker` and the scores behind it."""
