"""Training data of a linker: labelled and synthetic texts, and the batches of each epoch."""
