"""Links a file of mentions or typed texts with the original's command line; run it from the root: no PYTHONPATH is needed.

``python blink/main_dense_all_ents.py --help`` lists the flags.
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

    sys.exit(program("main_dense_all_ents.py", "blink.compat.elq.run:main")())
