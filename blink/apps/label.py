"""``blink label``: texts without gold, labelled by a calibrated model where it is certain."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from blink.apps.common import bar, say
from blink.apps.model_options import MODEL_SECTION, RUN_SECTION, SCORE_SECTION, model_options, open_linker
from blink.apps.outputs import Outputs
from blink.apps.sections import SectionedCommand
from blink.data.mention_files import read_samples, row_of
from blink.data.records import Mention, Sample
from blink.errors import SettingsError
from blink.files import atomic_open

if TYPE_CHECKING:
    from blink.linking.analysis import Analysis
    from blink.linking.linker import Linker


SECTIONS = {
    "Labelled texts": ("out", "min_confidence", "max_uncertain"),
    **MODEL_SECTION,
    **SCORE_SECTION,
    **RUN_SECTION,
}


@click.command(cls=SectionedCommand, sections=SECTIONS)
@click.argument("file", metavar="FILE")
@click.option("--out", required=True, metavar="OUT", help="Labelled mention file to write; - is standard output.")
@click.option(
    "--min-confidence",
    "--sure",
    type=click.FloatRange(0, 1),
    default=0.9,
    show_default=True,
    help="Spans of a higher probability become gold.",
)
@click.option(
    "--max-uncertain",
    "--doubtful",
    type=click.FloatRange(0, 1),
    default=0.1,
    show_default=True,
    help="Texts with a span between this probability and --min-confidence are skipped.",
)
@model_options
def label(file: str, out: str, **options: Any) -> None:
    """Let a calibrated model label texts, for training on them.

    Only texts are written in which the model is certain of every span: clearly a mention, or clearly none.

    \b
    Example:
      blink label texts.jsonl --model experiments/mine/best --kb kb --out labelled.jsonl
      blink train --train train.jsonl --dev dev.jsonl --kb kb --pseudo labelled.jsonl --mix questions=1,pseudo=0.5
    """
    label_file(file, out, **options)


def label_file(file: str, out: str, min_confidence: float, max_uncertain: float, batch_size: int, **options: Any) -> None:
    """Write the texts of a mention file in which the linker is certain of every span, with its links as gold.

    Raises:
        SettingsError: the model has no reranker, so its scores are no probabilities; or ``min_confidence`` is the smaller one.
    """
    if not max_uncertain <= min_confidence:
        fault = f"--min-confidence {min_confidence:g} is below --max-uncertain {max_uncertain:g}"
        raise SettingsError(f"{fault}; give --min-confidence the larger probability")
    Outputs(rows=out).check()
    samples = [s for s in read_samples(file) if s.text.strip()]
    linker = open_linker(bulk=True, **options)
    if linker.mode != "probability":
        raise SettingsError("labelling needs probabilities; give a model with a reranker (blink rank), without --no-rank")
    count = 0
    target = contextlib.nullcontext(sys.stdout) if out == "-" else atomic_open(out)
    with target as f, bar("labelling", len(samples), "text") as progress:
        for row in _labelled(linker, samples, min_confidence, max_uncertain, batch_size, progress.advance):
            f.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    bounds = f"no span's probability is from {max_uncertain:g} to {min_confidence:g}"
    say(f"{out}: {count:,} of {len(samples):,} texts, in which {bounds}")


def _labelled(
    linker: Linker, samples: list[Sample], min_confidence: float, max_uncertain: float, batch_size: int, progress: Any
) -> Iterator[dict[str, Any]]:
    from blink.linking.decoder import Thresholds

    analyses = linker.analyze([s.text for s in samples], batch_size=batch_size)
    for sample, analysis in zip(samples, analyses, strict=True):
        progress(1)
        if _certain(linker, analysis, min_confidence, max_uncertain):
            links = linker.decode(analysis, Thresholds(min_confidence)).links
            mentions = tuple(Mention(link.start, link.end, link.row, link.kb_id, link.title) for link in links)
            yield row_of(Sample(sample.id, sample.text, mentions))


def _certain(linker: Linker, analysis: Analysis, min_confidence: float, max_uncertain: float) -> bool:
    """Whether every span is clearly a mention or clearly none, also those that a link overlaps."""
    from blink.evaluation.sweep import best_scores

    best = best_scores(analysis.spans, linker.mode)
    return bool(((best > min_confidence) | (best <= max_uncertain)).all())
