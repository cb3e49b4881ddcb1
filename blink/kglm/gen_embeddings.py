"""Initial embeddings with the original's command line: ``python -m blink.kglm.gen_embeddings --help`` lists it."""

from __future__ import annotations

import importlib
import sys

if __name__ == "__main__":
    # Command lines lie in `blink.apps`, which nothing here imports; run as a script, this is an entry point like those.
    sys.exit(importlib.import_module("blink.apps.kglm.embed").main())
