"""The original's command ``train_lm``; ``python -m blink.kglm.train_lm --help`` says what it does."""

import sys

from blink.compat.kglm.commands import main

if __name__ == "__main__":
    sys.exit(main("train_lm"))
