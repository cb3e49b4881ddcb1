"""The original's command ``train_kge_lm``; ``python -m blink.kglm.train_kge_lm --help`` says what it does."""

import sys

from blink.stopping import program

if __name__ == "__main__":
    sys.exit(program("train_kge_lm", "blink.compat.kglm.commands:main")("train_kge_lm"))
