"""The original's command ``test_kge``; ``python -m blink.kglm.test_kge --help`` says what it does."""

import sys

from blink.stopping import program

if __name__ == "__main__":
    sys.exit(program("test_kge", "blink.compat.kglm.commands:main")("test_kge"))
