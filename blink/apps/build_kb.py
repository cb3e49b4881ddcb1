"""``blink kb build``: encodes entities and indexes them."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from blink.apps.common import Bar, bar, say
from blink.apps.model_options import model_option, precision_option
from blink.apps.sections import SectionedCommand
from blink.errors import SettingsError
from blink.files import require_file
from blink.kb.index.budget import plan_memory
from blink.kb.index.kinds import AUTO, CHOICES, COARSE_FROM
from blink.kb.index.qdrant_index import API_KEY, QDRANT, QdrantService
from blink.limits import parse_size
from blink.progress import StageBars

SECTIONS = {
    "Input and output": ("out", "columns", "encoding", "skip_bad"),
    "An existing knowledge base": ("reuse", "edits"),
    "Encoding": ("model", "precision", "device", "batch_size", "chunk_rows", "dtype"),
    "Index": ("index", "max_ram", "url", "collection", "exact"),
}


@click.command(cls=SectionedCommand, sections=SECTIONS)
@click.argument("catalogue", metavar="FILE")
@click.option("--out", required=True, metavar="DIR", help="Output folder; an existing one is replaced at the end.")
@model_option("Model whose candidate encoder encodes the entities, or a pretrained encoder.  [default: the starter]")
@click.option(
    "--index",
    type=click.Choice([*CHOICES, QDRANT]),
    default=AUTO,
    show_default=True,
    help=f"flat is exact; coarse finds the same faster; ivfpq is for millions. auto: coarse from {COARSE_FROM:,} entities.",
)
@click.option("--max-ram", metavar="SIZE", help="Memory that linking may take, such as 4G: the index that fits, or an error.")
@click.option("--url", metavar="URL", help=f"Of the Qdrant service, for --index {QDRANT}; its key is in {API_KEY}.")
@click.option("--collection", metavar="NAME", help="In the service.  [default: named after the entities and the model]")
@click.option("--exact", is_flag=True, help="Let the service compare every vector.")
@click.option("--dtype", type=click.Choice(["fp32", "fp16"]), default="fp32", show_default=True, help="How vectors are stored.")
@click.option("--chunk-rows", type=click.IntRange(1), help="Entities between two saves.  [default: 1000]")
@click.option("--columns", metavar="KEY=COLUMN,...", help="Which column is what, such as title=Name,text=Beschreibung.")
@click.option("--encoding", metavar="NAME", help="Of a text, such as cp1252.  [default: recognised; else UTF-8]")
@click.option("--reuse", metavar="KB", help="Take over vectors of entities with the same text.  [default: those of --out]")
@click.option("--keep-edits", "edits", flag_value="keep", help="Make the edits of --out again in the new knowledge base.")
@click.option("--discard-edits", "edits", flag_value="discard", help="Lose the edits of --out.")
@click.option("--skip-bad", is_flag=True, help="Skip broken lines; they keep their row and are never linked.")
@click.option("--batch-size", type=click.IntRange(1), default=64, show_default=True, help="Entities per forward pass.")
@precision_option
@click.option("--device", metavar="NAME", help="Such as cpu or cuda.  [default: a GPU where there is one]")
def build(catalogue: str, out: str, model: str | None, **options: Any) -> None:
    """Encode entities and index them.

    FILE has one JSON object a line: "title" (required), "text" (a description), "kb_idx" (such as a Wikidata id), "idx" (an
    address), "aliases", "types" and "tags" (lists). The line number, from 0, is the entity's row. Or it is a JSON array,
    CSV, TSV or Parquet, plain or compressed: columns named title or name, text or description, id, url, aliases, type and
    tags are recognised, and several aliases in a cell are separated by | or ;.

    \b
    Examples:
      blink kb build entity.jsonl --out my-kb
      blink kb build products.csv --out my-kb --columns title=Name,text=Beschreibung
    """
    build_kb(catalogue, out, model, **options)


def build_kb(
    catalogue: str,
    out: str,
    model: str | None,
    *,
    batch_size: int,
    precision: str,
    device: str | None,
    url: str | None,
    collection: str | None,
    exact: bool,
    max_ram: str | None,
    columns: str | None,
    **options: Any,
) -> None:
    """Encode entities and index them, with progress on standard error; a signal keeps the finished chunks of vectors."""
    from blink.kb.building import BuildProgress, build_knowledge_base, finished_rows
    from blink.kb.live.carrying import REFUSE
    from blink.kb.sources.columns import parse_columns
    from blink.kb.sources.formats import ALLOWED
    from blink.linking.opening import open_encoder_for_builds
    from blink.stopping import StoppedBySignal, signals_raise

    if url is None and (collection is not None or exact):
        raise SettingsError(f"--collection and --exact are of a service; give --index {QDRANT} and --url URL too")
    service = None if url is None else QdrantService(url, collection or "", exact)
    limit = None if max_ram is None else parse_size(max_ram)
    source = require_file(catalogue, f"give entities: {ALLOWED}")
    named_columns = None if columns is None else parse_columns(columns)
    bars = StageBars(Bar, "entity")
    hooks = BuildProgress(bars.stage, bars.advance, bars.reuse, say)
    try:
        with signals_raise():
            bars.stage("loading the model", 0)
            encoder = open_encoder_for_builds(model, precision, device, batch_size, bar)
            options |= {"service": service, "max_ram": limit, "progress": hooks, "columns": named_columns}
            options["edits"] = options.get("edits") or REFUSE
            manifest = build_knowledge_base(source, out, encoder, **options)
        bars.close()
    except StoppedBySignal as stop:
        kept = f"the vectors of {finished_rows(out):,} entities are kept"
        say(f"blink: stopped while {bars.name}; {kept}; continue with: {shlex.join(['blink', *sys.argv[1:]])}")
        raise SystemExit(128 + stop.signal) from stop
    finally:
        bars.close(completed=False)
    say(
        f"{out}: {manifest.entities:,} entities, vectors of dimension {manifest.dim}, "
        f"index {manifest.index}, {manifest.skipped} lines skipped"
    )
    if limit is not None and service is None:
        from blink.evaluation.index_check import stated_cost
        from blink.kb.reindex import stored_vectors

        say(f"{out}: {plan_memory(stored_vectors(manifest), limit, manifest.index)}")
        say(f"{out}: {stated_cost(out, model, bars=bar)}")


@click.command()
@click.argument("out", metavar="DIR")
@model_option("Model whose candidate encoder encodes what is added.  [default: the starter]")
def new(out: str, model: str | None) -> None:
    """Make a knowledge base without entities, which edits fill.

    \b
    Example:
      blink kb new my-kb
      blink kb add my-kb --title "Zorblax" --text "A moon of Kepler-1649c."
    """
    from blink import KnowledgeBase
    from blink.kb.manifest import MANIFEST_FILE

    if (Path(out) / MANIFEST_FILE).exists():
        raise SettingsError(f"{out} is a knowledge base already; add to it (blink kb add {out}), or name another folder")
    KnowledgeBase.from_records([], model, out)
    say(f"{out}: 0 entities; add some: blink kb add {out} --title NAME --text DESCRIPTION")
