"""Descriptions of scores and thresholds by mode, for help, hints and errors."""

from __future__ import annotations

from dataclasses import dataclass

from blink.linking.decoder import mode_named
from blink.linking.scoring import entity_scores, link_probabilities


@dataclass(frozen=True)
class Scale:
    """How a mode scores.

    Attributes:
        about: what a score is, a sentence; ``{}`` is replaced by the number of candidates.
        example: a threshold, as people type it.
        everything: the one that keeps every link.
        brief: what a score is, in a few words for a prompt; empty where that is what the original's users know.
        kind: what a score is, for programs.
    """

    about: str
    example: str
    everything: str
    brief: str = ""
    kind: str = "probability"


PROBABILITIES = Scale(
    "Scores are probabilities that a link is right, from 0 to 1; what the {} candidates of a mention lack to 1 is the chance "
    "that it names none of them. :threshold 0.5 keeps what is more likely right than wrong.",
    "0.5",
    "0",
    "scores are probabilities, from 0 to 1",
)
LOG_PROBABILITIES = Scale(
    "Scores are log-probabilities, at most 0: how sure that the words name an entity, plus how sure that it is this one of the "
    "{} candidates retrieved.",
    "-2.5",
    "-inf",
    kind="log_probability",
)
INNER_PRODUCTS = Scale(
    "Scores are inner products of a mention and each of its {} candidates: the larger, the nearer.",
    "0",
    "-inf",
    kind="inner_product",
)


def scale_of(mode: str) -> Scale:
    """How a mode of `blink.linking.decoder.MODES` scores."""
    scores = mode_named(mode).scores
    if scores is link_probabilities:
        return PROBABILITIES
    return INNER_PRODUCTS if scores is entity_scores else LOG_PROBABILITIES


def score_kind(mode: str) -> str:
    """What the scores of a mode are: ``probability``, ``log_probability`` or ``inner_product``."""
    return scale_of(mode).kind
