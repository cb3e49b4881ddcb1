"""The arms of ``scripts/prior_ablation.py``, and its page from their figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scripts.harness import markdown_table

FILES = {
    "train": "WebQSP_EL/train.jsonl",
    "dev": "WebQSP_EL/dev.jsonl",
    "graph": "graphquestions_EL/train.jsonl",
    "oke": "documents/oke-2016-train.jsonl",
}
TITLES = {"train": "WebQSP train", "dev": "WebQSP dev", "graph": "GraphQuestions", "oke": "OKE 2016"}
SCORES = {"text": "the bi-encoder's own scores (text only)", "ranker": "the ranker's scores (text, names, popularity)"}


@dataclass(frozen=True)
class Arm:
    """A line of the table.

    Attributes:
        name: of the arm.
        what: for readers.
        terms: of the prior that count.
        table: which of the priors given, by name; the first where only the graph counts.
        shuffled: vectors are dealt out to other entities.
        relatedness: kind that coherence is tried with.
    """

    name: str
    what: str
    terms: tuple[str, ...] = ()
    table: str = "kglm"
    shuffled: bool = False
    relatedness: str = ""


BOTH = ("popularity", "vector")
ARMS = (
    Arm("none", "no prior"),
    Arm("degree", "+ popularity, log(1 + degree)", ("popularity",)),
    Arm("kglm", "+ popularity + KG-LM vectors", BOTH),
    Arm("shuffled", "the same, vectors dealt out to other entities", BOTH, shuffled=True),
    Arm("graph", "+ popularity + vectors of the graph without texts", BOTH, "graph"),
    Arm("description", "+ popularity + vectors of descriptions without the graph", BOTH, "description"),
    Arm("signature", "+ popularity + relation signatures, nothing trained", BOTH, "signature"),
    Arm("neighbours", "+ popularity + KG-LM vectors + coherence by neighbours", BOTH, relatedness="neighbours"),
    Arm("cosine", "... by cosine of KG-LM vectors", BOTH, relatedness="cosine"),
    Arm("plausibility", "... by plausibility of any relation", BOTH, relatedness="plausibility"),
    Arm("degree-neighbours", "+ popularity + coherence by neighbours", ("popularity",), relatedness="neighbours"),
)
"""In the order of the table; `none` and `degree` are what others are compared with."""


def table_of(results: Mapping[str, Any]) -> str:
    """The table as Markdown."""
    lines = ["# What a prior of a knowledge graph is worth", "", *_preface(results)]
    for scores, what in SCORES.items():
        if scores not in results["scores"]:
            continue
        of = results["scores"][scores]
        lines += ["", f"## Beside {what}", "", *_given_table(of["mentions"]), "", *_slice_table(of["mentions"])]
        lines += ["", *_text_table(of["texts"])]
    return "\n".join(lines) + "\n"


def _preface(results: Mapping[str, Any]) -> list[str]:
    made, counts = results["made"], {name: groups["ambiguous"] for name, groups in results["groups"].items()}
    sizes = ", ".join(f"{TITLES[name]} {count}" for name, count in counts.items())
    reader = "by models that were not trained on them" if made["folds"] else "by a model that has seen no question at all"
    lines = [
        "Made by `python scripts/prior_ablation.py`, which says how. Accuracy on given mentions that are ambiguous "
        f"({sizes}), mean of {len(made['seeds'])} seeds; differences are on WebQSP train, with 95 % intervals of 10,000 paired "
        f"draws of questions. The questions of WebQSP train are read {reader}, and the weights of terms are fitted on other "
        "parts of them; on WebQSP dev the few numbers that weigh terms were fitted."
    ]
    if "ranker" in results["scores"]:
        lines[0] += " The ranker was fitted on WebQSP train read in the same way: there it is a little too good, in every row."
    return lines


def _given_table(of: Mapping[str, Any]) -> list[str]:
    against = {"none": "against no prior", "degree": "against popularity", "shuffled": "against shuffled vectors"}
    rows = []
    for arm in ARMS:
        hits = of[arm.name]
        accuracies = [_percent(hits[name]["ambiguous"]) for name in FILES]
        differences = ["" if arm.name == other else _interval(hits["train"][f"against {other}"]) for other in against]
        none = hits["train"]["against none"]
        rows.append([arm.what, *accuracies, *differences, f"{none['fixed']} / {none['broken']}"])
    return [markdown_table(["prior", *TITLES.values(), *against.values(), "fixed / broken"], rows, 1)]


def _slice_table(of: Mapping[str, Any]) -> list[str]:
    groups = [g for g in of["none"]["train"] if not g.startswith("against") and g not in ("ambiguous", "all")]
    rows = [[arm.what, *(_percent(of[arm.name]["train"][g]) for g in groups)] for arm in ARMS]
    return ["WebQSP train, by kind of ambiguous mention:", "", markdown_table(["prior", *groups], rows, 1)]


def _text_table(of: Mapping[str, Any]) -> list[str]:
    head = ["prior", "WebQSP dev, covered", "all", "GraphQuestions, covered", "all", "popularity", "vector", "coherence"]
    rows = []
    for arm in ARMS:
        figures = of[arm.name]
        scores = [f"{figures[name][section]:.3f}" for name in ("dev", "graph") for section in ("covered", "all")]
        rows.append([arm.what, *scores, *(f"{figures['weights'][name]:g}" for name in head[-3:])])
    title = "Whole texts, weak F1 at the cut-off that is best on WebQSP dev for each row:"
    return [title, "", markdown_table(head, rows, 1)]


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _interval(of: Mapping[str, Any]) -> str:
    return f"{100 * of['difference']:+.1f} [{100 * of['low']:+.1f}, {100 * of['high']:+.1f}]"
