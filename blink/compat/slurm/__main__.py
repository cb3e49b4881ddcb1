"""What the original's shell scripts call: ``python -m blink.compat.slurm train|encode|eval ARGUMENT...``."""

import sys

from blink.compat.slurm.run import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
