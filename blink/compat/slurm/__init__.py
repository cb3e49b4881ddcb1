"""The original's shell scripts for a cluster: ``arguments`` (what they are called with), ``plans`` (what they do), ``run``."""
