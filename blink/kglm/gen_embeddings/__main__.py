"""Initial embeddings with the original's command line: ``python -m blink.kglm.gen_embeddings --help`` lists it."""

import sys

from blink.stopping import program

if __name__ == "__main__":
    sys.exit(program("gen_embeddings", "blink.compat.kglm.gen_embeddings:main")())
