"""The ``blink`` command."""

from __future__ import annotations

import sys

import click

from blink import __version__
from blink.apps.common import guarded
from blink.apps.lazy import LazyGroup

HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
COMMANDS = {
    "link": ("blink.apps.link:link", "Link texts: those given, the lines of a file, or of standard input."),
    "shell": ("blink.apps.shell.command:shell", "Type texts and see their links."),
    "kb": ("blink.apps.kb:kb", "Make and check knowledge bases."),
    "eval": ("blink.apps.evaluate:evaluate", "Evaluate on a mention file: precision, recall and F1, with intervals."),
    "compare": ("blink.apps.compare:compare", "Compare two systems on the same questions."),
    "train": ("blink.compat.elq.training:train", "Train a model to find mentions and their entities."),
    "rank": ("blink.apps.rank:rank", "Fit the reranker of a model."),
    "calibrate": ("blink.apps.calibrate:calibrate", "Turn a reranker's scores into probabilities."),
    "export": ("blink.apps.export:export", "Write a model for ONNX Runtime."),
    "bench": ("blink.apps.bench:bench", "Measure how fast a linker is on this machine."),
    "doctor": ("blink.apps.doctor:doctor", "Check the installation; measure which backend is fast here."),
    "label": ("blink.apps.label:label", "Label texts with a calibrated model, for training."),
    "shrink": ("blink.apps.shrink:shrink", "Store a model of adapters in a smaller file."),
    "slurm": ("blink.apps.slurm:slurm", "Train, encode, evaluate and link as jobs of a Slurm cluster."),
    "kglm": ("blink.apps.kglm:kglm", "Learn embeddings from a knowledge graph and its texts."),
}
"""Name -> where the command is, and its short help. ``train`` also takes the flags of the original."""


@click.group(cls=LazyGroup, table=COMMANDS, context_settings=HELP)
@click.version_option(__version__, prog_name="blink")
def cli() -> None:
    """Find the mentions of entities in text and link them to a knowledge base.

    \b
    Try:
      blink link "who was born in Paris, Texas?"      link a text with the starter
      blink shell                                     type texts, see links and their reasons
      blink kb build my_entities.jsonl --out my-kb    make a knowledge base of your own
      blink eval questions.jsonl                      precision, recall and F1 with intervals
    """


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the ``blink`` command; ends the process."""
    sys.exit(guarded(lambda: cli.main(arguments, prog_name="blink", standalone_mode=False), "blink"))


if __name__ == "__main__":
    main()
