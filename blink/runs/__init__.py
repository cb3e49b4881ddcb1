"""What everything that trains shares: typed settings, and the folder, checkpoints and trace of a run."""
