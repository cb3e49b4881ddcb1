"""How fast a linker is on this machine: processes that link, and the figures of their runs."""
