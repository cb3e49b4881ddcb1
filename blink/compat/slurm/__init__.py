"""The original's shell scripts for a cluster: ``arguments``, ``plans`` (steps), ``run``."""
