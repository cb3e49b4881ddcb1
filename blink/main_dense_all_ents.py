"""Links a file of mentions or typed texts with the original's command line; run it from the root: no PYTHONPATH is needed.

``python blink/main_dense_all_ents.py --help`` lists the flags.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # Python puts a script's own folder first on the path: there `import blink` fails, and modules shadow installed ones.
    here = Path(__file__).resolve().parent
    sys.path[:] = [str(here.parent), *(entry for entry in sys.path if Path(entry).resolve() != here)]

    from blink.compat.elq.run import main

    sys.exit(main())
