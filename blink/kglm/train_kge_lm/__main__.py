"""The original's command ``train_kge_lm``; ``python -m blink.kglm.train_kge_lm --help`` says what it does."""

import sys

from blink.compat.kglm.commands import main

if __name__ == "__main__":
    sys.exit(main("train_kge_lm"))
