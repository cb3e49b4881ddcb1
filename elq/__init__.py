"""The original ELQ's package name, for programs that call it from Python: ``import elq.main_dense``."""
