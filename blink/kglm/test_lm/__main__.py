"""The original's command ``test_lm``; ``python -m blink.kglm.test_lm --help`` says what it does."""

import sys

from blink.compat.kglm.commands import main

if __name__ == "__main__":
    sys.exit(main("test_lm"))
