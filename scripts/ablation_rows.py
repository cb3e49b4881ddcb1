"""The rows of ``scripts/ablation.py``: which sources, options and models each has, and its mixture of texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from blink.model.config import FEATURE_GROUPS
from scripts.harness import Arguments

MIX = {"questions": 1.0, "related": 0.4, "slotted": 0.6, "plain": 0.3, "swapped": 0.4, "described": 0.6}
"""Texts per question of each source, in the row base of ``train``."""
SYNTHETIC = {source: share for source, share in MIX.items() if source not in ("questions", "swapped")}
"""Those that need no labelled question."""
PSEUDO_SHARE = 0.5

PROSE = ("gum", "wned-wiki", "fewrel", "lcquad")
"""Files of labelled prose, written by ``scripts/prose_files.py``."""
QUESTIONS = ("questions", "questions")
"""They need more passes than prose, and count twice, as in ``scripts/train_starter.sh``."""
PROSE_MIX = {
    "questions": 1.0, "passage": 0.2, "sport": 0.08, "lookalike": 0.1, "notname": 0.1, "enumeration": 0.05,
    "related": 0.12, "slotted": 0.15, "plain": 0.06, "swapped": 0.15, "described": 0.1,
}  # fmt: skip
"""Texts of each source per labelled text, in the row base of ``prose``: the first stage of ``scripts/train_starter.sh``."""
PROSE_OPTIONS = {"reads-case": ("--reads-case",), "recase": ("--recase", "0.35"), "join": ("--join", "0.3")}
"""Options of the row base of ``prose`` that a row can be without."""
START = {"questions": 5.0}
"""Texts of the row start of ``prose``, whose model the others begin with: passes over the questions."""
OPTION_NAMES = {"reads-case": "reading letter case", "recase": "texts in another letter case", "join": "joined texts"}


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        table: ``train``, ``prose`` or ``rank``.
        name: of the row and its folder.
        what: description of the difference.
        against: the row that it differs from in one thing; none for the first.
        mix: shares of the sources, where the row trains.
        options: further options of training, or of evaluation where nothing is trained.
        own_vectors: whether training makes entity vectors, and thereby a knowledge base.
        begins: the row whose model it begins with; none for the encoder alone.
        labelled: files of labelled texts, in ``prose``.
    """

    table: str
    name: str
    what: str
    against: str | None = None
    mix: Mapping[str, float] = field(default_factory=dict)
    options: Arguments = ()
    own_vectors: bool = False
    begins: str | None = None
    labelled: tuple[str, ...] = ()


def train_rows() -> list[Row]:
    """The rows that train."""

    def row(name: str, what: str, mix: Mapping[str, float] = MIX, *options: str, **more: Any) -> Row:
        return Row("train", name, what, **{"against": "base", "mix": mix, "options": options, **more})

    batch = ("--objective", "in_batch")
    without = [row(f"no-{out}", f"without {out} texts", {k: v for k, v in MIX.items() if k != out}) for out in list(MIX)[1:]]
    return [
        row("base", "all sources, exact softmax over the catalogue, entity tower frozen", against=None),
        row("questions", "labelled questions only", {"questions": 1.0}),
        *without,
        row("pseudo", "with questions that a model has labelled", {**MIX, "pseudo": PSEUDO_SHARE}),
        row("pretrained", "texts made from catalogue and graph only, no question", {**SYNTHETIC, "questions": 0.0}),
        row("tuned", "pretrained, then questions only", {"questions": 1.0}, against="questions", begins="pretrained"),
        row("no-damage", "names in made texts never misspelt", MIX, "--damage", "0"),
        row("in-batch", "objective: the other entities of the batch", MIX, *batch),
        row("hard", "objective: the batch and mined negatives", MIX, "--objective", "in_batch+hard_negatives"),
        row(
            "entity-tower", "as in-batch, and the entity tower learns (adapters)", MIX, *batch, "--entity-tower", "adapters",
            against="in-batch", own_vectors=True,
        ),
    ]  # fmt: skip


def prose_rows() -> list[Row]:
    """The rows that train on questions and prose, without one source or option after the other; the newer ones first.

    All begin with one model of questions, so that short runs tell what texts add to it rather than how fast one is learned.
    """
    everything = QUESTIONS + PROSE
    options = tuple(option for options in PROSE_OPTIONS.values() for option in options)

    defaults = {"mix": PROSE_MIX, "options": options, "labelled": everything, "begins": "start"}

    def row(name: str, what: str, against: str | None = "base", **more: Any) -> Row:
        return Row("prose", name, what, **{**defaults, "against": against, **more})

    def without_file(out: str) -> Row:
        return row(f"no-{out}", f"without {out}, labelled prose", labelled=tuple(file for file in everything if file != out))

    def without_source(out: str) -> Row:
        return row(f"no-{out}", f"without {out} texts", mix={k: v for k, v in PROSE_MIX.items() if k != out})

    def without_option(out: str) -> Row:
        rest = tuple(option for name, options in PROSE_OPTIONS.items() if name != out for option in options)
        return row(f"no-{out}", f"without {OPTION_NAMES[out]} (--{out})", options=rest)

    without_sources = [without_source(out) for out in list(PROSE_MIX)[1:]]
    newer, older = without_sources[:5], without_sources[5:]
    return [
        Row("prose", "start", "the model of questions that the others begin with", mix=START, labelled=QUESTIONS[:1]),
        row("base", "questions, labelled prose and all synthetic sources", against=None),
        row("questions", "questions only", labelled=QUESTIONS, mix={"questions": 1.0}),
        row("other-seed", "as base, with other texts and another order", options=(*options, "--seed", "52314")),
        *(without_file(out) for out in PROSE),
        *newer,
        *(without_option(out) for out in PROSE_OPTIONS),
        row("no-prose", "without labelled prose", labelled=QUESTIONS),
        row("no-synthetic", "labelled texts only", mix={"questions": 1.0}),
        *older,
    ]


def rank_rows() -> list[Row]:
    """The rows that only read."""
    without = [Row("rank", f"no-{kind}", f"without {kind}", "full", options=("--without", kind)) for kind in FEATURE_GROUPS]
    raw = Row("rank", "no-rank", "the bi-encoder's own joint score", "full", options=("--no-rank",))
    return [Row("rank", "full", "the whole reranker"), *without, raw]


ROWS = {"train": train_rows(), "prose": prose_rows(), "rank": rank_rows()}


def mixture(mix: Mapping[str, float], epochs: int) -> str:
    """Shares for ``--mix``: those of a row, scaled to as many texts as ``epochs`` of the row base have."""
    factor = epochs * sum(MIX.values()) / sum(mix.values())
    return ",".join(f"{source}={share * factor:.6g}" for source, share in mix.items())


def prose_mixture(row: Row, counts: Mapping[str, int], texts: int) -> str:
    """Shares for ``--mix`` of a row of ``prose``, such that it reads ``texts`` texts: those of base, all scaled by one factor.

    The row that the others begin with has its own length.

    Args:
        row: with its files and shares. A share is per labelled text of base, whichever files the row has.
        counts: file -> number of texts.
        texts: of the row, before some are joined.
    """
    if row.begins is None:
        return ",".join(f"{source}={share:.6g}" for source, share in row.mix.items())
    labelled, of_base = (sum(counts[file] for file in files) for files in (row.labelled, QUESTIONS + PROSE))
    synthetic = {source: share * of_base for source, share in row.mix.items() if source != "questions"}
    factor = texts / (labelled + sum(synthetic.values()))
    made = (f"{source}={number * factor / labelled:.6g}" for source, number in synthetic.items())
    return ",".join([f"questions={factor:.6g}", *made])
