"""What ``blink label`` does: texts without gold, labelled by a model that is sure of what it says."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from blink.apps.common import bar, say
from blink.apps.linking import open_linker
from blink.apps.outputs import Outputs
from blink.data.mention_files import read_samples
from blink.data.records import Sample
from blink.errors import SettingsError
from blink.files import atomic_open

if TYPE_CHECKING:
    from blink.linking.linker import Analysis, Linker


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
