"""``blink slurm encode``: a catalogue encoded in shards."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from blink.apps.common import say
from blink.apps.model_options import model_option
from blink.apps.sections import SectionedCommand
from blink.apps.slurm.follow import follow
from blink.apps.slurm.options import CLUSTER_SECTIONS, cluster_options, merge_option, take_cluster
from blink.cluster.jobs import JOB_FOLDER, JobFolder, split_into_shards
from blink.kb.index.kinds import AUTO, CHOICES

WHOLE_FILE = "all.t7"
SECTIONS = {
    "Input and output": ("out", "layout", "chunk", "skip_bad"),
    **CLUSTER_SECTIONS,
    "Encoding and index": ("model", "precision", "device", "batch_size", "index", "dtype"),
}


@click.command(cls=SectionedCommand, sections=SECTIONS)
@click.argument("catalogue", metavar="ENTITY.jsonl")
@click.option("--out", required=True, metavar="DIR", help="Folder of the result; jobs leave their logs in DIR/slurm.")
@model_option("Model whose candidate encoder encodes the entities.  [default: the starter]")
@click.option(
    "--layout",
    type=click.Choice(["kb", "t7"]),
    default="kb",
    show_default=True,
    help="kb makes a knowledge base; t7 makes the files of the original, START_END.t7 and all.t7.",
)
@click.option(
    "--chunk", type=int, nargs=2, metavar="START END", help="With t7: encode these rows alone, here; END -1: to the last."
)
@click.option("--index", type=click.Choice(CHOICES), default=AUTO, show_default=True, help="As of kb build.")
@click.option("--dtype", type=click.Choice(["fp32", "fp16"]), default="fp32", show_default=True, help="How vectors are stored.")
@click.option("--skip-bad", is_flag=True, help="Skip broken lines; they keep their row and are never linked.")
@click.option("--batch-size", type=click.IntRange(1), default=64, show_default=True, help="Entities per forward pass.")
@click.option(
    "--precision", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", show_default=True, help="Of the encoder."
)
@click.option("--device", metavar="NAME", help="Such as cpu or cuda.  [default: a GPU where there is one]")
@merge_option
@cluster_options
def encode(catalogue: str, out: str, chunk: tuple[int, int] | None, **options: Any) -> None:
    """Encode a catalogue in shards of --shard-rows entities, check them, and make a knowledge base of them.

    A shard that is missing, short or damaged is named, and the same command encodes it again.

    \b
    Examples:
      blink slurm encode entity.jsonl --model M --out my-kb --index hnsw --shard-rows 500000 --parallel 8
      blink slurm encode models/entity.jsonl --model M --out models/entity_encodings/mine --layout t7
    """
    from blink.cluster.plans import encode_chunk, encoding_of, encoding_plan, prepare_encoding

    settings, follow_options = take_cluster(options)
    model = options.pop("model")
    model = str(Path(model).resolve()) if model is not None and Path(model).is_dir() else model
    encoder = {"model": model, **{name: options.pop(name) for name in ("precision", "device", "batch_size")}}
    job, shard_rows = JobFolder(Path(out) / JOB_FOLDER), settings.slurm.shard_rows
    encoding = encoding_of(catalogue, out, encoder, shard_rows, job=None if follow_options.dry_run else job.path, **options)
    if chunk is not None:
        say(encode_chunk(encoding, chunk, encoder, dry_run=follow_options.dry_run, say=say))
        return
    plan = encoding_plan(encoding, encoder, split_into_shards(encoding.rows, shard_rows))
    prepare = partial(prepare_encoding, job, plan, encoding)
    if follow(job, plan, settings, follow_options, prepare=prepare) and follow_options.merge:
        files = f", all in {Path(encoding.out) / WHOLE_FILE}" if encoding.layout == "t7" else ""
        say(f"{encoding.out}: {encoding.rows:,} entities{files}")
