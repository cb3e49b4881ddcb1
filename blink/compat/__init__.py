"""Commands, scripts and Python calls of the original projects, implemented by this one; README.md lists the differences."""
