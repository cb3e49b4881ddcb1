"""Initial embeddings with the original's command line: ``python -m blink.kglm.gen_embeddings --help`` lists it."""

import sys

from blink.compat.kglm.gen_embeddings import main

if __name__ == "__main__":
    sys.exit(main())
