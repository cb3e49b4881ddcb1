"""What a linker is trained on: labelled and synthetic texts, and the batches of each epoch."""
