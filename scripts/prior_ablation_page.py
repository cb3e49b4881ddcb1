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
SCORES = {"text": "the bi-encoder's own scores (text only)", "ranker": "the reranker's scores (text, names, popularity)"}


@dataclass(frozen=True)
class Arm:
    """A line of the table.

    Attributes:
        name: of the arm.
        what: for readers.
        terms: of the prior that are used.
        table: name of the prior file, see ``--prior``.
        shuffled: vectors are permuted among entities.
        relatedness: measure of coherence, empty for none.
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
    Arm("shuffled", "the same, vectors permuted among entities", BOTH, shuffled=True),
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
    lines = ["# Gains from a knowledge-graph prior", "", *_preface(results)]
    for scores, what in SCORES.items():
        if scores not in results["scores"]:
            continue
        of = results["scores"][scores]
        lines += ["", f"## With {what}", "", *_given_table(of["mentions"]), "", *_slice_table(of["mentions"])]
        lines += ["", *_text_table(of["texts"])]
    return "\n".join(lines) + "\n"


def _preface(results: Mapping[str, Any]) -> list[str]:
    provenance, counts = results["made"], {name: groups["ambiguous"] for name, groups in results["groups"].items()}
    sizes = ", ".join(f"{TITLES[name]} {count}" for name, count in counts.items())
    model = "models that were not trained on them" if provenance["folds"] else "a model that was trained on no question"
    lines = [
        "Written by `python scripts/prior_ablation.py`; its help describes the method. Accuracy on ambiguous gold mentions "
        f"({sizes}), mean of {len(provenance['seeds'])} seeds; differences are on WebQSP train, with 95 % intervals of 10,000 "
        f"paired resamples of questions. The questions of WebQSP train are scored by {model}, "
        "and the weights of terms are fitted out of fold. WebQSP dev also fitted the weights of terms."
    ]
    if "ranker" in results["scores"]:
        lines[0] += (
            " The reranker was fitted on WebQSP train, out of fold: its accuracy there is slightly optimistic, in every row."
        )
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
    title = "Whole texts, weak F1 at the threshold that is best on WebQSP dev for each row:"
    return [title, "", markdown_table(head, rows, 1)]


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _interval(of: Mapping[str, Any]) -> str:
    return f"{100 * of['difference']:+.1f} [{100 * of['low']:+.1f}, {100 * of['high']:+.1f}]"
