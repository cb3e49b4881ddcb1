"""One step of training: entity vectors, losses, mined negatives, the update."""
