"""The linker inside other libraries and protocols."""
