"""The ``blink`` command."""

from __future__ import annotations

import sys

from blink.stopping import program

if __name__ == "__main__":  # before the other imports, during which Ctrl-C may come
    sys.exit(program("blink", "blink.apps.cli:main")())

import click

from blink import __version__
from blink.apps.common import guarded
from blink.apps.lazy import LazyGroup
from blink.completion import completion_options
from blink.limits import LIMITS, set_limits

HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
COMMANDS = {
    "link": ("blink.apps.link:link", "Link texts: those given, the lines of a file, or of standard input."),
    "shell": ("blink.apps.shell.command:shell", "Type texts and see their links."),
    "serve": ("blink.apps.serve:serve", "Answer requests for links over HTTP."),
    "mcp": ("blink.apps.mcp:mcp", "Let language models link texts: a server of MCP."),
    "kb": ("blink.apps.kb:kb", "Make and check knowledge bases."),
    "resolve": ("blink.apps.resolve:resolve", "Resolve records to existing or new entities; merge entities."),
    "eval": ("blink.apps.evaluate:evaluate", "Evaluate on a mention file: precision, recall and F1, with intervals."),
    "compare": ("blink.apps.compare:compare", "Compare two systems on the same questions."),
    "train": ("blink.compat.elq.training:train", "Train a model to find mentions and their entities."),
    "rank": ("blink.apps.rank:rank", "Fit the reranker of a model."),
    "calibrate": ("blink.apps.calibrate:calibrate", "Turn a reranker's scores into probabilities."),
    "export": ("blink.apps.export:export", "Write a model for ONNX Runtime."),
    "bench": ("blink.apps.bench:bench", "Measure how fast a linker is on this machine."),
    "doctor": ("blink.apps.doctor:doctor", "Check the installation; measure which backend is fast here."),
    "label": ("blink.apps.label:label", "Label texts with a calibrated model, for training."),
    "convert": ("blink.apps.convert:convert", "Exchange labelled texts with Label Studio, doccano and ELEVANT."),
    "shrink": ("blink.apps.shrink:shrink", "Store a model of adapters in a smaller file."),
    "slurm": ("blink.apps.slurm:slurm", "Train, encode, evaluate and link as jobs of a Slurm cluster."),
    "kglm": ("blink.apps.kglm:kglm", "Learn embeddings from a knowledge graph and its texts."),
}
"""Name -> where the command is, and its short help. ``train`` also takes the flags of the original."""


@click.group(cls=LazyGroup, table=COMMANDS, context_settings=HELP)
@click.version_option(__version__, prog_name="blink")
@completion_options
@click.option(
    "--limits",
    metavar="NAME=VALUE,...",
    expose_value=False,
    callback=lambda ctx, param, text: set_limits(text or ""),
    help=f"Limits of what is read from files, such as title=20000,line=1G; names: {', '.join(LIMITS)}.",
)
def cli() -> None:
    """Find the mentions of entities in text and link them to a knowledge base.

    \b
    Try:
      blink link "who was born in Paris, Texas?"   link a text with the starter
      blink shell                                  type texts, see why they link
      blink kb build entities.csv --out my-kb      your own knowledge base
      blink eval questions.jsonl                   precision, recall and F1
      blink COMMAND --help                         options and examples
    """


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the ``blink`` command; ends the process."""
    sys.exit(guarded(lambda: cli.main(arguments, prog_name="blink", standalone_mode=False), "blink"))
