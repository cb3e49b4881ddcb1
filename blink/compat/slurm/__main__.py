"""What the original's shell scripts call: ``python -m blink.compat.slurm train|encode|eval ARGUMENT...``."""

import sys

from blink.stopping import program

if __name__ == "__main__":
    sys.exit(program("launchers", "blink.compat.slurm.run:main")(sys.argv[1:]))
