"""The original's command ``train_kge_lm``; ``python -m blink.kglm.train_kge_lm --help`` tells what it does."""

from __future__ import annotations

import importlib
import sys

if __name__ == "__main__":
    # Command lines lie in `blink.apps`, which nothing here imports; run as a script, this is an entry point like those.
    sys.exit(importlib.import_module("blink.apps.kglm.original").main("train_kge_lm"))
