"""The original's command ``test_lm``; ``python -m blink.kglm.test_lm --help`` says what it does."""

import sys

from blink.stopping import program

if __name__ == "__main__":
    sys.exit(program("test_lm", "blink.compat.kglm.commands:main")("test_lm"))
