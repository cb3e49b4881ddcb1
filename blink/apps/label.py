"""``blink label``: texts without gold, labelled by a calibrated model where it is certain."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from blink.apps.common import bar, say
from blink.apps.model_options import model_options, open_linker
from blink.apps.outputs import Outputs
from blink.data.mention_files import read_samples
from blink.data.records import Sample
from blink.errors import SettingsError
from blink.files import atomic_open

if TYPE_CHECKING:
    from blink.linking.linker import Analysis, Linker


@click.command()
@click.argument("file", metavar="FILE")
@click.option("--out", required=True, metavar="OUT", help="Labelled mention file to write; - is standard output.")
@click.option(
    "--sure", type=click.FloatRange(0, 1), default=0.9, show_default=True, help="Spans of a higher probability become gold."
)
@click.option(
    "--doubtful",
    type=click.FloatRange(0, 1),
    default=0.1,
    show_default=True,
    help="Texts with a span between this probability and --sure are left out.",
)
@model_options
def label(file: str, out: str, **options: Any) -> None:
    """Let a calibrated model label texts, for training on them.

    Only texts are kept about which the model is certain as a whole: every span is clearly a mention or clearly none.

    \b
    Example:
      blink label texts.jsonl --model experiments/mine/best --kb kb --out labelled.jsonl
      blink train --train train.jsonl --dev dev.jsonl --kb kb --pseudo labelled.jsonl --mix questions=1,pseudo=0.5
    """
    label_file(file, out, **options)


def label_file(file: str, out: str, sure: float, doubtful: float, batch_size: int, **options: Any) -> None:
    """Write the texts of a mention file in which the linker is sure of every span, with its links as gold.

    Raises:
        SettingsError: the model has no ranker, so its scores are no probabilities; or ``sure`` is below ``doubtful``.
    """
    if not doubtful <= sure:
        raise SettingsError(f"--sure {sure:g} is below --doubtful {doubtful:g}; give --sure the larger probability")
    Outputs(rows=out).check()
    samples = [s for s in read_samples(file) if s.text.strip()]
    linker = open_linker(**options)
    if linker.mode != "probability":
        raise SettingsError("labelling needs probabilities; give a model with a ranker (blink rank), without --no-rank")
    kept = 0
    place = contextlib.nullcontext(sys.stdout) if out == "-" else atomic_open(out)
    with place as f, bar("labelling", len(samples), "text") as shown:
        for row in _labelled(linker, samples, sure, doubtful, batch_size, shown.advance):
            f.write(json.dumps(row, ensure_ascii=False) + "\n")
            kept += 1
    say(f"{out}: {kept:,} of {len(samples):,} texts, in which no span's probability lies from {doubtful:g} to {sure:g}")


def _labelled(
    linker: Linker, samples: list[Sample], sure: float, doubtful: float, batch_size: int, progress: Any
) -> Iterator[dict[str, Any]]:
    from blink.linking.scoring import Thresholds

    readings = linker.read([s.text for s in samples], batch_size=batch_size)
    for sample, reading in zip(samples, readings, strict=True):
        progress(1)
        if _certain(linker, reading, sure, doubtful):
            links = linker.choose(reading, Thresholds(sure)).links
            yield {
                "id": sample.id,
                "text": sample.text,
                "mentions": [[link.start, link.end] for link in links],
                "wikidata_id": [link.kb_id for link in links],
                "entity": [link.title for link in links],
                "label_id": [link.row for link in links],
            }


def _certain(linker: Linker, reading: Analysis, sure: float, doubtful: float) -> bool:
    """Whether every span is clearly a mention or clearly none, also those that a link overlaps."""
    from blink.evaluation.sweep import best_scores

    best = best_scores(reading.spans, linker.mode)
    return bool(((best > sure) | (best <= doubtful)).all())
