"""Links of each backend and precision: F1 on labelled texts, links that differ from PyTorch in fp32, and questions a second.

    python scripts/backend_figures.py --data $BLINK_DATA --kb experiments/webqsp-kb

A link differs if its span or its entity does; it counts in both directions. Speed is that of the first set, on one thread:
sides run alternately, and figures are medians of CPU time. Sides that the processor has no instructions for are slow, not
wrong. Results are written to STEM.json and STEM.md after each set; sets that STEM.json holds for the same model are not linked
again.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before the libraries are loaded

from blink.apps.common import bar, say
from blink.data.mention_files import read_samples
from blink.data.prior_file import NO_PRIOR
from blink.evaluation.run import evaluate_file
from blink.evaluation.saved import model_hash
from blink.evaluation.speed.machine import machine
from blink.files import read_json
from blink.linking.linker import Linker
from blink.linking.starter import starter_kb, starter_model
from scripts.harness import ROOT, alternate, as_help, data_option, markdown_table, run_script, write_results


@dataclass(frozen=True)
class Side:
    """What runs the encoder."""

    backend: str
    precision: str

    @property
    def name(self) -> str:
        """Of its column."""
        return f"{self.backend} {self.precision}"


SINGLE = 64
"""Texts that are linked one by one."""
SIDES = (Side("torch", "fp32"), Side("torch", "bf16"), Side("onnx", "fp32"), Side("onnx", "int8"))


@dataclass(frozen=True)
class LabelledSet:
    """A set, and which of its figures counts.

    Attributes:
        title: for readers.
        file: below the folder of the data, or of the project.
        block: of the report of ``blink eval --json``.
        matching: weak or strong.
        text_key: of its texts.
        in_project: whether it is a file of the project, linked over the starter's entities.
    """

    title: str
    file: str
    block: str
    matching: str
    text_key: str = "text"
    in_project: bool = False


SETS = (
    LabelledSet("WebQSP dev", "WebQSP_EL/dev.jsonl", "covered", "weak"),
    LabelledSet("GraphQuestions train", "graphquestions_EL/train.jsonl", "covered", "weak"),
    LabelledSet("GUM dev", "gum/dev.jsonl", "covered_mentions", "strong", "text_cased"),
    LabelledSet("OKE 2016", "documents/oke-2016-train.jsonl", "covered_mentions", "strong", "text_cased"),
    LabelledSet("OKE 2015", "documents/oke-2015-train.jsonl", "covered_mentions", "strong", "text_cased"),
    LabelledSet("everyday test", "tests/data/everyday.jsonl", "all", "strong", in_project=True),
    LabelledSet("everyday dev", "tests/data/everyday-dev.jsonl", "all", "strong", in_project=True),
)


@click.command(help=as_help(__doc__))
@click.option("--kb", required=True, metavar="DIR", help="Knowledge base of the sets in --data.")
@data_option("Folder of the sets.")
@click.option("--model", default=None, metavar="DIR", help="Model folder.  [default: the starter]")
@click.option("--rounds", type=click.IntRange(0), default=5, show_default=True, help="Runs of each side for the speed.")
@click.option("--out", default=str(ROOT / "benchmarks" / "results" / "backends"), metavar="STEM", help="STEM.json and STEM.md.")
def main(kb: str, data: str, model: str | None, rounds: int, out: str) -> None:
    """Measure all sides."""
    folder, stem = Path(model or starter_model()), Path(out)
    file = stem.with_name(f"{stem.name}.json")
    results: dict[str, Any] = {"model": model_hash(folder)[:16], "sets": {}}
    if file.is_file() and (stored := read_json(file)).get("model") == results["model"]:
        results = stored
    results["machine"] = machine() | {"processor": platform.processor()}
    for labelled in SETS:
        if labelled.title not in results["sets"]:
            say(f"linking {labelled.title}")
            results["sets"][labelled.title] = _figures(labelled, folder, kb, Path(data))
            write_results(stem, results, _page(results))
    if rounds:
        results["speed"] = _speed(folder, kb, Path(data) / SETS[0].file, rounds)
        write_results(stem, results, _page(results))
    say(_page(results))


def _figures(labelled: LabelledSet, model: Path, kb: str, data: Path) -> dict[str, Any]:
    file = (ROOT if labelled.in_project else data) / labelled.file
    options = {"kb": str(starter_kb()), "prior": None} if labelled.in_project else {"kb": kb, "prior": NO_PRIOR}
    figures: dict[str, Any] = {}
    reference: list[set[tuple[Any, ...]]] = []
    for side in SIDES:
        run = evaluate_file(str(file), text_key=labelled.text_key, model=str(model), bars=bar, **options, **asdict(side))
        links = [{(span["start"], span["end"], span["id"]) for span in row["predicted"]} for row in run.rows]
        reference = reference or links
        figures[side.name] = {
            "f1": round(run.figures[labelled.block][labelled.matching]["f1"], 4),
            "links": sum(map(len, links)),
            "differing": sum(len(a ^ b) for a, b in zip(links, reference, strict=True)),
        }
    return figures


def _speed(model: Path, kb: str, file: Path, rounds: int) -> dict[str, Any]:
    texts = [sample.text for sample in read_samples(file)][:256]
    linkers = {side.name: Linker.from_pretrained(model, kb, prior=NO_PRIOR, **asdict(side)) for side in SIDES}
    batched = alternate(
        {name: partial(_link_all, linker, texts) for name, linker in linkers.items()}, rounds, time.process_time
    )
    single = alternate(
        {name: partial(_link_each, linker, texts[:SINGLE]) for name, linker in linkers.items()}, rounds, time.process_time
    )
    return {
        name: {
            "batch_64": round(len(texts) / statistics.median(batched[name]), 1),
            "single": round(SINGLE / statistics.median(single[name]), 1),
            "batch_64_ratio": _ratio(batched, name),
            "single_ratio": _ratio(single, name),
        }
        for name in linkers
    }


def _link_all(linker: Linker, texts: Sequence[str]) -> None:
    for _ in linker.link(texts, batch_size=64):
        pass


def _link_each(linker: Linker, texts: Sequence[str]) -> None:
    for text in texts:
        linker(text)


def _ratio(seconds: Mapping[str, Sequence[float]], name: str) -> float:
    """How much faster than the first side, by the median over rounds."""
    first = seconds[SIDES[0].name]
    return round(statistics.median(a / b for a, b in zip(first, seconds[name], strict=True)), 2)


def _page(results: Mapping[str, Any]) -> str:
    head = ["texts", *(side.name for side in SIDES)]
    rows = [[title, *(_cell(figures, side) for side in SIDES)] for title, figures in results["sets"].items()]
    rows += [
        [title, *(f"{of[key]:g} ({of[f'{key}_ratio']:g})" for of in (results["speed"][side.name] for side in SIDES))]
        for key, title in (("batch_64", "questions/s, batches of 64"), ("single", "questions/s, one by one"))
        if "speed" in results
    ]
    links = "F1 (links that differ from torch fp32, of all its links)"
    about = f"{links}; questions a second of CPU time on one thread (ratio to torch fp32).\n"
    return "# Backends and precisions\n\n" + about + "\n" + markdown_table(head, rows, 1) + "\n"


def _cell(figures: Mapping[str, Any], side: Side) -> str:
    of = figures[side.name]
    return f"{of['f1']:.4f}" + ("" if side is SIDES[0] else f" ({of['differing']} of {figures[SIDES[0].name]['links']})")


if __name__ == "__main__":
    run_script(main, "backend_figures.py")
