"""The original BLINK's calls from Python, and its script; `blink.compat` says how faithful they are.

``python blink/main_dense.py --help`` lists the flags.
"""

# ruff: noqa: PTH120 - until signals are handled, Ctrl-C is a traceback: pathlib would take longer than all else before that
from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    # Python puts a script's own folder first on the path: there `import blink` fails, and modules shadow installed ones.
    here = os.path.dirname(os.path.realpath(__file__))
    sys.path[:] = [os.path.dirname(here), *(entry for entry in sys.path if os.path.realpath(entry) != here)]

    from blink.stopping import program

    sys.exit(program("main_dense.py", "blink.compat.blink_main_dense.calls:main")())

from blink.compat.blink_main_dense.calls import load_models, run

__all__ = ["load_models", "run"]
