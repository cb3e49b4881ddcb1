"""The original's command ``train_lm``; ``python -m blink.kglm.train_lm --help`` says what it does."""

import sys

from blink.stopping import program

if __name__ == "__main__":
    sys.exit(program("train_lm", "blink.compat.kglm.commands:main")("train_lm"))
