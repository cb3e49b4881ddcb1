"""Entity-aware tasks on LUKE: fine-tuning, evaluation and their tools, run by ``python -m examples.cli``.

Thin code around the LUKE classes of transformers. Nothing of ``blink`` imports this package.
"""
