"""Shared parts of all training: typed settings, the loop, and the folder, checkpoints and trace of a run."""
