"""The original BLINK's calls from Python, and its script; `blink.compat` says how faithful they are.

``python blink/main_dense.py --help`` lists the flags.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # Python puts a script's own folder first on the path: there `import blink` fails, and modules shadow installed ones.
    here = Path(__file__).resolve().parent
    sys.path[:] = [str(here.parent), *(entry for entry in sys.path if Path(entry).resolve() != here)]

from blink.compat.blink_main_dense.calls import load_models, main, run

__all__ = ["load_models", "run"]

if __name__ == "__main__":
    sys.exit(main())
