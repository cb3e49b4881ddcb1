"""Commands, scripts and Python calls of the original projects, answered by this one; README.md beside this says how far."""
