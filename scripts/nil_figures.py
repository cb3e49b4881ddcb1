"""Measures what a linker does with names whose entities its catalogue lacks.

A random tenth of the gold entities of a set is removed from the knowledge base, and the texts are linked over what remains:

- links on removed names: links that overlap a gold mention of a removed entity. All of them are wrong.
- F1 of the rest: micro F1 of the gold mentions whose entities remain; links that overlap a gold mention of another entity,
  removed or never in the catalogue, are not counted as predictions.

    python scripts/nil_figures.py --data $BLINK_DATA --kb experiments/webqsp-kb --model before=OLD --model after=NEW
"""

from __future__ import annotations

import random
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from blink.apps.common import say
from blink.data.mention_files import TEXT_KEY, bind, evaluation_samples
from blink.data.records import NOT_IN_CATALOGUE, LinkedText, Mention, Sample
from blink.errors import DataError
from blink.evaluation.matching import EntitySpan, count_matches
from blink.files import require_file
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.subset import subset
from blink.linking.linker import Linker
from blink.linking.starter import starter_kb
from blink.model.loading import load_model
from scripts.harness import ROOT, as_help, data_option, markdown_table, mean_and_deviation, parse_seeds, print_json, run_script
from scripts.model_rows import NamedModel, commands_of, measured, model_rows_options, write_rows

FRACTION = 0.1
"""Of the gold entities, removed."""


@dataclass(frozen=True)
class DevSet:
    """A set of labelled texts.

    Attributes:
        title: for readers.
        file: below the folder of the data, or of the project.
        text_key: of its texts.
        in_project: whether it is a file of the project, linked over the starter's entities.
    """

    title: str
    file: str
    text_key: str = TEXT_KEY
    in_project: bool = False


SETS = (
    DevSet("WebQSP dev", "WebQSP_EL/dev.jsonl"),
    DevSet("GUM dev, cased", "gum/dev.jsonl", "text_cased"),
    DevSet("everyday dev", "tests/data/everyday-dev.jsonl", in_project=True),
)


def removed_rows(samples: Sequence[Sample], seed: int) -> set[int]:
    """A random tenth of the rows that gold mentions name, at least one; the same entities for equal seeds.

    Raises:
        DataError: no gold mention has a row.
    """
    rows = sorted({m.row for s in samples for m in s.mentions or () if m.row != NOT_IN_CATALOGUE})
    if not rows:
        raise DataError("no gold mention is in the knowledge base; name the one that the files were labelled with")
    return set(random.Random(seed).sample(rows, max(1, round(FRACTION * len(rows)))))


def counts_of(sample: Sample, text: LinkedText, removed: set[int], row_of: np.ndarray) -> dict[str, int]:
    """Counts of one text.

    Args:
        sample: with gold rows of the whole knowledge base.
        text: linked over the subset.
        removed: rows of the whole that the subset lacks.
        row_of: rows of the subset by rows of the whole. *Shape:* (entities of the whole,).
    """
    gold = sample.mentions or ()
    names = [m for m in gold if m.row in removed]
    rest = [m for m in gold if m.row not in removed and m.row != NOT_IN_CATALOGUE]
    outside = [m for m in gold if m.row in removed or m.row == NOT_IN_CATALOGUE]
    links = [EntitySpan(str(link.row), link.start, link.end) for link in text.links]
    expected = [EntitySpan(str(int(row_of[m.row])), m.start, m.end) for m in rest]
    predicted = [link for link in links if not any(_overlap(link, m) for m in outside)]
    hits = count_matches(expected, predicted)
    return {
        "removed_names": len(names),
        "links_on_removed": sum(any(_overlap(link, m) for m in names) for link in links),
        "weak": hits.weak,
        "strong": hits.strong,
        "predicted": len(predicted),
        "gold": len(rest),
    }


def _overlap(link: EntitySpan, mention: Mention) -> bool:
    assert link.start is not None
    assert link.end is not None
    return link.start < mention.end and mention.start < link.end


def measure(model: NamedModel, base: KnowledgeBase, samples: Sequence[Sample], seeds: Sequence[int], prior: str | None) -> Any:
    """Counts and rates for each seed."""
    opened, runs = load_model(model.path), []
    for seed in seeds:
        removed = removed_rows(samples, seed)
        small = subset(base, removed)
        linker = Linker(opened, small.base, prior=prior)
        sums: dict[str, int] = {}
        for sample, text in zip(samples, linker.link([s.text for s in samples]), strict=True):
            for name, count in counts_of(sample, text, removed, small.row_of).items():
                sums[name] = sums.get(name, 0) + count
        runs.append({"seed": seed, "entities_removed": len(removed), **sums, **_rates(sums)})
    return runs


def _rates(sums: Mapping[str, int]) -> dict[str, float]:
    both = sums["predicted"] + sums["gold"]
    rates = {"links_per_removed_name": sums["links_on_removed"] / max(sums["removed_names"], 1)}
    rates |= {f"{matching}_f1": 2 * sums[matching] / max(both, 1) for matching in ("weak", "strong")}
    return {name: round(value, 4) for name, value in rates.items()}


HEAD = """\
# Names that the catalogue lacks

A random tenth of the gold entities is removed from the knowledge base; `scripts/nil_figures.py` says what is counted. Mean and
standard deviation over random removals, the same for all models."""


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The page of stored rows."""
    lines = []
    for row in rows:
        for title, runs in row["sets"].items():
            columns = {name: [run[name] for run in runs] for name in runs[0]}
            links = f"{sum(columns['links_on_removed'])} of {sum(columns['removed_names'])}"
            f1 = [mean_and_deviation(columns[name], 3) for name in ("links_per_removed_name", "weak_f1", "strong_f1")]
            lines.append([row["name"], title, str(len(runs)), links, *f1])
    head = ["model", "set", "removals", "links on removed names", "per name", "weak F1 of the rest", "strong F1 of the rest"]
    return f"{HEAD}\n\n{markdown_table(head, lines, 2)}\n\n{commands_of(rows)}"


@click.command(help=as_help(__doc__))
@data_option("Folder with WebQSP_EL/dev.jsonl and gum/dev.jsonl.")
@click.option("--kb", required=True, metavar="DIR", help="Knowledge base of the sets in --data.")
@model_rows_options("nil")
@click.option("--seeds", default="0,1,2", show_default=True, help="Of the removals.")
def main(data: str, kb: str, models: Sequence[NamedModel], prior: str | None, out: str, seeds: str) -> None:
    """Measure models and write the page."""
    numbers, rows = parse_seeds(seeds), []
    for model in models:
        figures = {}
        for dev in SETS:
            base = KnowledgeBase.open(starter_kb() if dev.in_project else kb)
            file = require_file((ROOT if dev.in_project else Path(data)) / dev.file, "name the folder of the data with --data")
            samples = list(bind(evaluation_samples(file, dev.text_key), base.catalogue))
            figures[dev.title] = measure(model, base, samples, numbers, prior)
            say(f"{model.name}, {dev.title}: {statistics.mean(run['weak_f1'] for run in figures[dev.title]):.4f}")
        rows.append(measured(model, {"sets": figures}, ["python", "scripts/nil_figures.py", *sys.argv[1:]]))
        print_json(rows[-1])
    write_rows(Path(out), rows, markdown)


if __name__ == "__main__":
    run_script(main, "nil_figures")
