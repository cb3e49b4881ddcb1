"""The original's command ``train_kge``; ``python -m blink.kglm.train_kge --help`` says what it does."""

import sys

from blink.stopping import program

if __name__ == "__main__":
    sys.exit(program("train_kge", "blink.compat.kglm.commands:main")("train_kge"))
