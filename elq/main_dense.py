"""The original ELQ's calls from Python; `blink.compat` says how faithful they are."""

from blink.compat.elq.calls import load_models, run

__all__ = ["load_models", "run"]
