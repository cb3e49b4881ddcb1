"""The ``blink`` command."""

from __future__ import annotations

import sys
from typing import Any

import click

from blink import __version__
from blink.apps.common import guarded
from blink.apps.evaluation_commands import evaluation_commands
from blink.apps.kglm import kglm
from blink.apps.lazy import LazyGroup
from blink.apps.model_options import model_options
from blink.apps.ranking_commands import calibrate, label, rank
from blink.apps.slurm_commands import slurm
from blink.apps.training_commands import shrink

HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 110}

ABOVE = {"train": ("blink.compat.elq.training:train", "Train the encoders to find mentions and their entities.")}
"""Commands that stand above this package, see `LazyGroup`."""


class _Root(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*self.commands, *ABOVE])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, cmd_name) or LazyGroup(table=ABOVE).get_command(ctx, cmd_name)


@click.group(cls=_Root, context_settings=HELP)
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


for _command in evaluation_commands:
    cli.add_command(_command)


@cli.command()
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@click.option("--file", "file", metavar="F", help="Read one text per line from F; - is standard input.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per text.")
@model_options
def link(texts: tuple[str, ...], file: str | None, as_json: bool, **options: Any) -> None:
    """Link texts: those given, the lines of a file, or of standard input.

    \b
    Examples:
      blink link "The Nile flows through Egypt." --json
      blink link --file questions.txt --threshold 0.5
      cat questions.txt | blink link --json > links.jsonl
    """
    from blink.apps.linking import link_texts

    link_texts(texts, file, as_json, **options)


@cli.group()
def kb() -> None:
    """Make knowledge bases."""


@kb.command()
@click.argument("catalogue", metavar="ENTITY.jsonl")
@click.option("--out", required=True, metavar="DIR", help="Folder to make; one that is there is replaced when all is done.")
@click.option(
    "--model",
    metavar="DIR",
    help="Model whose candidate encoder reads the entities, or the name of a pretrained encoder.  [default: the starter]",
)
@click.option(
    "--index",
    type=click.Choice(["flat", "hnsw", "ivfflat"]),
    default="flat",
    show_default=True,
    help="flat is exact; hnsw and ivfflat are faster for millions of entities.",
)
@click.option("--dtype", type=click.Choice(["fp32", "fp16"]), default="fp32", show_default=True, help="How vectors are stored.")
@click.option(
    "--chunk-rows",
    type=click.IntRange(1),
    default=5000,
    show_default=True,
    help="Entities between two saves; a killed build goes on from the last.",
)
@click.option("--skip-bad", is_flag=True, help="Pass over broken lines; they keep their row and are never linked.")
@click.option(
    "--batch-size", type=click.IntRange(1), default=64, show_default=True, help="Entities that go through the model at once."
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16"]),
    default="auto",
    show_default=True,
    help="Number format of the encoder.",
)
@click.option("--device", metavar="NAME", help="Such as cpu or cuda.  [default: a GPU where there is one]")
def build(catalogue: str, out: str, model: str | None, **options: Any) -> None:
    """Encode a catalogue and index it.

    ENTITY.jsonl has one JSON object a line: "title" (required), "text" (a description), "kb_idx" (such as a Wikidata
    id), "idx" (an address), "aliases" (a list). The line number, from 0, is the entity's row.

    \b
    Example:
      blink kb build entity.jsonl --out my-kb --index hnsw
    """
    from blink.apps.building import build_kb

    build_kb(catalogue, out, model, **options)


@cli.command()
@model_options
def shell(**options: Any) -> None:
    """Type texts and see their links; through a pipe, read a text per line and print a JSON object per line."""
    from blink.apps.shell import run_shell

    run_shell(**options)


cli.add_command(shrink)
cli.add_command(rank)
cli.add_command(calibrate)
cli.add_command(label)
cli.add_command(slurm)
cli.add_command(kglm)


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the ``blink`` command; ends the process."""
    sys.exit(guarded(lambda: cli.main(arguments, prog_name="blink", standalone_mode=False), "blink"))


if __name__ == "__main__":
    main()
