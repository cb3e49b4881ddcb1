"""Evaluates models on questions, prose and everyday texts, and writes a table with the mean of all models.

    scripts/starter_figures.py --kb KB --data DATA --out benchmarks/results/starter MODEL...

The first model is the one that is committed; the others are further seeds of its recipe. Each set is evaluated by
``blink eval``, with intervals by bootstrap. A gold mention counts as covered if its entity is in the knowledge base.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from blink.apps.common import say
from blink.files import read_json
from scripts.harness import Processes, as_help, data_option, markdown_table, run_script, write_results

EVERYDAY = Path(__file__).resolve().parents[1] / "tests/data"
STARTER_KB = Path(__file__).resolve().parents[1] / "models/starter-kb"


@dataclass(frozen=True)
class Figure:
    """A figure of an evaluation.

    Attributes:
        label: of its row.
        file: of the set, in the folder of the data, or of the repository's own sets.
        block: of the report of ``blink eval --json``.
        matching: weak or strong.
        options: of the evaluation.
    """

    label: str
    file: str
    block: str
    matching: str
    options: tuple[str, ...] = ()


CASED = ("--text-key", "text_cased")
PARAPHRASE = ("--cluster", "paraphrase")
STARTER = ("--kb", "STARTER")
FIGURES = (
    Figure("WebQSP dev, covered questions", "WebQSP_EL/dev.jsonl", "covered", "weak"),
    Figure("WebQSP dev, covered questions", "WebQSP_EL/dev.jsonl", "covered", "strong"),
    Figure("WebQSP dev, all questions", "WebQSP_EL/dev.jsonl", "all", "weak"),
    Figure("GraphQuestions train, covered questions", "graphquestions_EL/train.jsonl", "covered", "weak", PARAPHRASE),
    Figure("GUM dev, covered mentions", "gum/dev.jsonl", "covered_mentions", "strong", CASED),
    Figure("GUM dev, covered mentions, in lower case", "gum/dev.jsonl", "covered_mentions", "strong"),
    Figure("OKE 2016, covered mentions", "documents/oke-2016-train.jsonl", "covered_mentions", "strong", CASED),
    Figure("OKE 2015, covered mentions", "documents/oke-2015-train.jsonl", "covered_mentions", "strong", CASED),
    Figure("everyday dev", "everyday-dev.jsonl", "all", "strong", STARTER),
    Figure("everyday test", "everyday.jsonl", "all", "weak", STARTER),
    Figure("everyday test", "everyday.jsonl", "all", "strong", STARTER),
)


@click.command(help=as_help(__doc__))
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option("--kb", required=True, metavar="DIR", help="Knowledge base of the sets in --data.")
@data_option("Folder of the sets.")
@click.option("--out", required=True, metavar="STEM", help="Results are written to STEM.json and STEM.md.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads of an evaluation.")
def main(models: tuple[str, ...], kb: str, data: str, out: str, threads: int) -> None:
    """Evaluate the models."""
    run = Processes(threads)
    reports: dict[tuple[str, str, tuple[str, ...]], dict[str, Any]] = {}
    for model in models:
        for figure in FIGURES:
            key = (model, figure.file, figure.options)
            if key not in reports:
                reports[key] = _evaluated(run, model, kb, Path(data), figure)
    rows = [_row(figure, [reports[model, figure.file, figure.options] for model in models]) for figure in FIGURES]
    head = ["texts", "matching", "F1", "95 % interval", "precision", "recall", "mean of the models", "spread"]
    page = "# Figures of the starter\n\n" + markdown_table(head, [list(map(str, row.values())) for row in rows], 2)
    write_results(Path(out), {"models": list(models), "rows": rows}, page + "\n")
    say(page)


def _evaluated(run: Processes, model: str, kb: str, data: Path, figure: Figure) -> dict[str, Any]:
    path = data / figure.file if "/" in figure.file else EVERYDAY / figure.file
    options = [str(STARTER_KB) if o == "STARTER" else o for o in figure.options]
    options = options if "--kb" in options else [*options, "--kb", kb]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        run(("eval", str(path), "--model", model, *options, "--json", str(report)), Path(folder) / "log.txt")
        content: dict[str, Any] = read_json(report)
    return content


def _row(figure: Figure, reports: list[dict[str, Any]]) -> dict[str, str]:
    counts = [report[figure.block][figure.matching] for report in reports]
    first, scores = counts[0], [c["f1"] for c in counts]
    spread = f"{min(scores):.3f} to {max(scores):.3f}" if len(scores) > 1 else "-"
    return {
        "texts": figure.label,
        "matching": figure.matching,
        "f1": f"{first['f1']:.3f}",
        "interval": f"[{first['f1_low']:.3f}, {first['f1_high']:.3f}]",
        "precision": f"{first['precision']:.3f}",
        "recall": f"{first['recall']:.3f}",
        "mean": f"{statistics.mean(scores):.3f}",
        "spread": spread,
    }


if __name__ == "__main__":
    run_script(main, "starter_figures.py")
