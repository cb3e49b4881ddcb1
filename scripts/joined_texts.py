"""Measures what links are lost when short texts are joined into one long text.

The texts of a mention file are linked one by one, then joined in a random order, with a blank, a line end or two between two
texts, and linked as one. A gold mention is right if a link overlaps it and names its entity. *Lost* are the mentions that are
right one by one and not in the joined text, *won* those that are right only there, *net* is the difference of both.

    python scripts/joined_texts.py --model before=OLD --model after=NEW
"""

from __future__ import annotations

import random
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from blink.data.mention_files import bind, evaluation_samples
from blink.data.records import LinkedText, Sample
from blink.errors import DataError
from blink.linking.linker import Linker
from blink.linking.starter import starter_kb
from scripts.harness import ROOT, as_help, markdown_table, print_json, run_script
from scripts.model_rows import NamedModel, commands_of, measured, model_rows_options, open_model, write_rows

FILES = tuple(str(ROOT / "tests" / "data" / name) for name in ("everyday-dev.jsonl", "everyday.jsonl"))
SEPARATORS = {"blank": " ", "line end": "\n", "two line ends": "\n\n"}


def right_mentions(sample: Sample, text: LinkedText, start: int = 0) -> list[bool]:
    """Whether each gold mention of a sample is right in a text that holds the sample's text from ``start`` on."""
    return [
        any(
            link.start < mention.end + start and mention.start + start < link.end and link.row == mention.row
            for link in text.links
        )
        for mention in sample.mentions or ()
    ]


def joined(samples: Sequence[Sample], separator: str, seed: int) -> tuple[str, list[int]]:
    """All texts as one in a random order, and where the text of each sample starts in it."""
    order = list(range(len(samples)))
    random.Random(seed).shuffle(order)
    starts, length = [0] * len(samples), 0
    for index in order:
        starts[index] = length
        length += len(samples[index].text) + len(separator)
    return separator.join(samples[index].text for index in order), starts


def measure(linker: Linker, samples: Sequence[Sample], seeds: int) -> dict[str, Any]:
    """Mentions that are right one by one, and those lost in joined texts, for each separator and seed."""
    single = [right_mentions(*pair) for pair in zip(samples, linker.link([s.text for s in samples]), strict=True)]
    before = [right for of_text in single for right in of_text]
    figures: dict[str, Any] = {"mentions": len(before), "right": sum(before), "separators": {}}
    for name, separator in SEPARATORS.items():
        texts = [joined(samples, separator, seed) for seed in range(seeds)]
        runs = []
        for (_, starts), text in zip(texts, linker.link([text for text, _ in texts]), strict=True):
            after = [
                right for sample, start in zip(samples, starts, strict=True) for right in right_mentions(sample, text, start)
            ]
            runs.append({"right": sum(after), **_changes(before, after)})
        figures["separators"][name] = {"seeds": runs, **_rates(runs, sum(before))}
    return figures


def _changes(before: Sequence[bool], after: Sequence[bool]) -> dict[str, int]:
    pairs = list(zip(before, after, strict=True))
    return {"lost": pairs.count((True, False)), "won": pairs.count((False, True))}


def _rates(runs: Sequence[Mapping[str, int]], right: int) -> dict[str, float]:
    """Percentages of the mentions that are right one by one: lost, won and net, and the highest net of a seed."""
    lost, won = ([100 * run[name] / max(right, 1) for run in runs] for name in ("lost", "won"))
    net = [a - b for a, b in zip(lost, won, strict=True)]
    means = {"lost": statistics.mean(lost), "won": statistics.mean(won), "net": statistics.mean(net), "highest_net": max(net)}
    return {name: round(value, 2) for name, value in means.items()}


HEAD = """\
# Joined texts

Short texts linked one by one, and joined in random order into one text; `scripts/joined_texts.py` says what counts. Percentages
are of the mentions that are right one by one, mean over the seeds; *highest* is the net loss of the worst seed."""


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The page of stored rows."""
    lines = []
    for row in rows:
        for file, figures in row["files"].items():
            for separator, of in figures["separators"].items():
                right = [run["right"] for run in of["seeds"]]
                mean = f"{statistics.mean(right):.1f} ({min(right)}-{max(right)})"
                cells = [f"{of[name]:.1f} %" for name in ("lost", "won", "net", "highest_net")]
                lines.append([row["name"], file, separator, f"{figures['right']} of {figures['mentions']}", mean, *cells])
    head = ["model", "texts", "between", "right one by one", "right joined", "lost", "won", "net", "highest"]
    seeds = len(next(iter(rows[0]["files"].values()))["separators"]["blank"]["seeds"]) if rows else 0
    return f"{HEAD} {seeds} seeds.\n\n{markdown_table(head, lines, 3)}\n\n{commands_of(rows)}"


@click.command(help=as_help(__doc__))
@click.argument("files", nargs=-1, metavar="[FILE]...")
@model_rows_options("joined_texts")
@click.option("--kb", metavar="DIR", help="Knowledge base of the models.  [default: the starter's]")
@click.option("--seeds", type=click.IntRange(1), default=10, show_default=True, help="Random orders.")
def main(files: Sequence[str], models: Sequence[NamedModel], kb: str | None, prior: str | None, out: str, seeds: int) -> None:
    """Measure models and write the page."""
    rows = []
    for model in models:
        linker = open_model(model, Path(kb) if kb else starter_kb(), prior)
        by_file = {}
        for file in files or FILES:
            samples = list(bind(evaluation_samples(file), linker.catalogue))
            if not any(sample.mentions for sample in samples):
                raise DataError(f"{file} has no gold mentions; give a labelled mention file")
            by_file[Path(file).name] = measure(linker, samples, seeds)
        rows.append(measured(model, {"files": by_file}, ["python", "scripts/joined_texts.py", *sys.argv[1:]]))
        print_json(rows[-1])
    write_rows(Path(out), rows, markdown)


if __name__ == "__main__":
    run_script(main, "joined_texts")
