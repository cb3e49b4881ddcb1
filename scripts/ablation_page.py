"""The page of ``scripts/ablation.py``, from the figures of its rows."""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from scripts.harness import markdown_table

FILES = {"dev": "WebQSP_EL/dev.jsonl", "graph": "graphquestions_EL/train.jsonl"}
"""Evaluated files: first the development file, from which thresholds are taken."""


def markdown(tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """All tables, with what a reader has to know and the commands."""
    blocks = ["# Ablation", INTRODUCTION]
    if tables["train"]:
        blocks += ["## Training", TRAINING, table(tables["train"], "best")]
    if tables.get("prose"):
        blocks += ["## Prose", PROSE, prose_table(tables["prose"]), PROSE_DIFFERENCES, prose_differences(tables["prose"])]
    if tables["rank"]:
        blocks += ["## Features", FEATURES]
        blocks += ["At the threshold that is stored with the model:", table(tables["rank"], "cut")]
        blocks += ["At the threshold that is best for each row on WebQSP dev:", table(tables["rank"], "best")]
        blocks += [THRESHOLDS, transfer(tables["rank"])]
    rows = [row for table_rows in tables.values() for row in table_rows]
    if rows:
        blocks += ["## Commands", "\n\n".join(commands_of(row) for row in rows)]
    return "\n\n".join(blocks) + "\n"


INTRODUCTION = """\
Micro F1 with 95 % bootstrap intervals. dev is `WebQSP_EL/dev.jsonl`, GQ all of `graphquestions_EL/train.jsonl`; paraphrases are
resampled together, and no threshold is taken from GQ. "Covered" questions have all gold entities in the catalogue. Δ is the row
minus its reference row (*against*), on the same questions (paired bootstrap, covered weak F1); p is two-sided and not corrected
for the number of rows. Written by `scripts/ablation.py`."""
TRAINING = """\
Short runs, evaluated without a reranker at the threshold that is best on dev, so the figures on dev are optimistic. Every row
takes as many steps as base: where a source is missing, the shares of the others grow by the same factor. One seed: the
intervals do not cover the variation between seeds. The row tuned takes as many steps again as pretrained."""
PROSE = """\
Short runs with the texts of the first stage of `scripts/train_starter.sh`, all beginning with one model of questions,
evaluated without a reranker on WebQSP dev, GUM dev and everyday texts, at the threshold of the best mean of their covered
weak F1, so these figures are optimistic. Every row reads as many texts as base: where a source is missing, the shares of the
others grow by the same factor. Some texts are joined into one, so steps differ a little, and no-join has more and shorter
steps. Strong F1 and the mean are over covered mentions. "GUM spans": share of all gold mentions of GUM dev whose exact span
is proposed / has a mention probability above 0.5. Teams, pairs of lookalikes and traps are the development sets of
`scripts/trap_figures.py`, over small catalogues: texts with all teams right, pairs right, traps left alone and, since a model
that links nothing leaves all alone, other names in their texts that are linked right. One seed: the intervals do not cover
the variation between seeds; differences that are no larger than that of other-seed are no evidence. "Steps" of start are
those of its own training."""
PROSE_DIFFERENCES = """\
Differences of strong F1 of covered mentions (paired bootstrap over texts):"""
FEATURES = """\
One model, whose reranker runs without one group of features, or is switched off."""
THRESHOLDS = """\
How thresholds transfer from dev to GQ: F1 (covered weak) at the threshold from dev, the highest F1 that any threshold reaches
on GQ, and the difference."""


def table(rows: Sequence[Mapping[str, Any]], cut: str) -> str:
    """One line a row."""
    head = ["row", "what", "dev covered weak", "dev covered strong", "dev all weak", "GQ covered weak"]
    lines = []
    for row in rows:
        dev, graph, delta = row[cut]["dev"], row[cut]["graph"], row["compared"].get(cut, {})
        figures = [interval(dev, "covered", "weak"), interval(dev, "covered", "strong"), interval(dev, "all", "weak")]
        figures.append(interval(graph, "covered", "weak"))
        lines.append([row["name"], row["what"], *figures, row["against"] or "", *(change(delta.get(n)) for n in FILES)])
    return markdown_table([*head, "against", "Δ dev", "Δ GQ"], lines)


PROSE_FILES = {"webqsp": "WebQSP", "gum": "GUM", "everyday": "everyday"}
"""Evaluated files of the table ``prose`` -> their titles."""


def prose_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line a row."""
    head = ["row", "what", "steps", "WebQSP covered weak", *(f"{title} strong" for title in PROSE_FILES.values()), "mean"]
    lines = []
    for row in rows:
        files, traps = row["cut"], row["traps"]
        spans = files["gum"]["spans"]
        figures = [figure(files["webqsp"]), *(interval(files[name], "covered_mentions", "strong") for name in PROSE_FILES)]
        figures += [f"{mean_strong(row):.4f}", f"{spans['recall_proposed']:.3f} / {spans['recall_likely']:.3f}"]
        rates = [
            traps["teams"]["texts"]["team"],
            traps["lookalikes"]["pairs"],
            traps["traps"]["alone"],
            traps["traps"]["other_names"],
        ]
        team, pairs, alone, others = (f"{rate['count']}/{rate['total']}" for rate in rates)
        lines.append([row["name"], row["what"], str(row["steps"]), *figures, team, pairs, f"{alone}, {others}"])
    return markdown_table([*head, "GUM spans", "teams", "pairs", "traps, others"], lines)


def prose_differences(rows: Sequence[Mapping[str, Any]]) -> str:
    """Each row less its reference row, on each file."""
    lines = []
    for row in rows:
        if row["against"] is not None:
            delta = row["compared"].get("cut", {})
            lines.append([row["name"], row["against"], *(change(delta.get(name), "mentions strong") for name in PROSE_FILES)])
    return markdown_table(["row", "against", *(f"Δ {title}" for title in PROSE_FILES.values())], lines)


def mean_strong(row: Mapping[str, Any]) -> float:
    """Mean strong F1 of covered mentions on the files of the table ``prose``."""
    return statistics.mean(row["cut"][name]["covered_mentions"]["strong"]["f1"] for name in PROSE_FILES)


def transfer(rows: Sequence[Mapping[str, Any]]) -> str:
    """What is lost on GraphQuestions by a threshold from dev."""
    lines = []
    for row in rows:
        if row["name"] not in ("full", "no-rank"):
            continue
        for cut, name in (("cut", "stored with the model"), ("best", "best on dev")):
            graph, top = row[cut]["graph"], row["best"]["graph"].get("best_anywhere")
            value = graph["covered"]["weak"]["f1"]
            at = "none" if graph["threshold"] is None else f"{graph['threshold']:g}"
            # The swept thresholds lie on a grid, which another threshold may beat.
            best = ["", ""] if top is None else [f"{max(top, value):.4f}", f"{max(top - value, 0):.4f}"]
            lines.append([row["name"], name, at, figure(row[cut]["dev"]), f"{value:.4f}", *best])
    return markdown_table(["row", "threshold", "value", "dev", "GQ", "GQ, best threshold", "loss"], lines)


def figure(of: Mapping[str, Any]) -> str:
    """Covered weak F1."""
    return f"{of['covered']['weak']['f1']:.4f}"


def interval(of: Mapping[str, Any], section: str, matching: str) -> str:
    """F1 with its interval."""
    f1 = of[section][matching]
    return f"{f1['f1']:.4f} [{f1['f1_low']:.4f}, {f1['f1_high']:.4f}]"


def change(of: Mapping[str, Any] | None, figure_name: str = "covered weak") -> str:
    """A difference with its interval and p value."""
    if of is None or figure_name not in of:
        return ""
    change_f1 = of[figure_name]
    p = "p < 0.001" if change_f1["p"] < 0.001 else f"p = {change_f1['p']:.3f}"
    return f"{change_f1['difference']:+.4f} [{change_f1['low']:+.4f}, {change_f1['high']:+.4f}] {p}"


def commands_of(row: Mapping[str, Any]) -> str:
    """What made a row."""
    revision = "an unknown revision" if row["git"] is None else f"revision {row['git'][:12]}{'+changes' * ('+' in row['git'])}"
    lines = "\n".join(shlex.join(command) for command in row["commands"])
    return f"{row['name']} ({revision}, {row['seconds'] / 60:.1f} min):\n\n```\n{lines}\n```"
