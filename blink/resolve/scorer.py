"""The probability that a pair of profiles is one thing: a logistic model with named weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blink.errors import DataError
from blink.files import read_json, write_json
from blink.resolve.features import FEATURES, Comparison, compare
from blink.resolve.profiles import Profile

WEIGHTS_FILE = Path(__file__).with_name("weights.json")
_LEAST_PROBABILITY = 1e-4
_REASONS = {
    "names_spacing": "names differ in blanks alone",
    "names_acronym": "one name is the initials of the other",
    "names_contained": "one name is in the other",
    "names_conflict": "names have other words",
    "nickname": "short form of a first name",
    "sound": "another transliteration",
    "typo": "a letter differs",
    "initial": "a first name is an initial",
    "reordered": "words in another order",
    "family_name_alone": "a family name alone",
    "rest_unexplained": "words that one name lacks",
    "number_missing": "a number that one name lacks",
    "generation_missing": "a generation that one name lacks",
    "shared_proper_words": "descriptions share names",
    "shared_words": "descriptions share words",
    "year_shared": "a year in both",
    "year_conflict": "other years",
    "types_equal": "equal types",
    "types_related": "related types",
    "types_different": "other types",
    "text_cosine": "descriptions are alike",
    "one_described": "one has no description",
    "names_full": "all words of the names agree",
}
"""Features that are reasons, with the words for it."""
_UNLIKE = "descriptions are not alike"
_LEAST_REASON = 0.25
"""Log-odds from which a feature is a reason."""


@dataclass(frozen=True)
class Match:
    """A pair that was scored.

    Attributes:
        probability: that they are one thing.
        forbidden: why they cannot be; "" if they can.
        comparison: what was measured.
        reasons: what counted, in words, the weightiest first.
    """

    probability: float
    forbidden: str
    comparison: Comparison = field(repr=False)
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class PairScorer:
    """A logistic model over `FEATURES`, and its operating point.

    Attributes:
        weights: log-odds of each feature.
        scale: Platt's slope: log-odds are ``scale * weights @ features + shift`` (Platt 1999).
        shift: Platt's intercept.
        same: probability from which a pair is one thing.
        new: probability up to which it is two things; between them it is proposed to a person.
        about: data and figures of the fit.
    """

    weights: Mapping[str, float]
    scale: float = 1.0
    shift: float = 0.0
    same: float = 0.95
    new: float = 0.3
    about: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, path: str | Path = WEIGHTS_FILE) -> PairScorer:
        """Read a scorer; the one that comes with BLINK by default.

        Raises:
            MissingFileError: there is no such file.
            DataError: it is no scorer.
        """
        values = read_json(path, "fit one: blink resolve fit PAIRS.jsonl --out FILE")
        try:
            scorer = cls(**values)
            numbers = [*scorer.weights.values(), scorer.scale, scorer.shift, scorer.same, scorer.new]
            if set(scorer.weights) != set(FEATURES) or not all(isinstance(x, int | float) for x in numbers):
                raise TypeError("features and weights differ")
        except (TypeError, AttributeError) as error:
            raise DataError(f"{path} is no scorer of this version ({error}); fit one: blink resolve fit PAIRS.jsonl") from error
        return scorer

    def save(self, path: str | Path) -> None:
        """Write the scorer."""
        weights = {name: round(self.weights[name], 4) for name in FEATURES}
        numbers = {name: round(getattr(self, name), 4) for name in ("scale", "shift", "same", "new")}
        write_json(path, {"weights": weights, **numbers, "about": dict(self.about)})

    @cached_property
    def vector(self) -> npt.NDArray[np.float64]:
        """The weights in the order of `FEATURES`. *Shape:* (features,)."""
        return np.array([self.weights[name] for name in FEATURES])

    def score(self, a: Profile, b: Profile) -> Match:
        """Compare a pair."""
        comparison = compare(a, b)
        log_odds = self.scale * float(comparison.values @ self.vector) + self.shift
        probability = 0.0 if comparison.forbidden else 1 / (1 + np.exp(-np.clip(log_odds, -30, 30)))
        return Match(float(probability), comparison.forbidden, comparison, self._reasons(comparison))

    def _reasons(self, comparison: Comparison) -> tuple[str, ...]:
        if comparison.forbidden:
            return (comparison.forbidden,)
        terms = dict(zip(FEATURES, (comparison.values * self.vector).tolist(), strict=True))
        terms["text_cosine"] += terms["weak_name_text_cosine"]
        weighty = sorted((name for name in _REASONS if abs(terms[name]) >= _LEAST_REASON), key=lambda name: -abs(terms[name]))
        names = "same name" if comparison.match.relation == "exact" else None
        phrases = [_UNLIKE if name == "text_cosine" and terms[name] < 0 else _REASONS[name] for name in weighty[:4]]
        return tuple(([names] if names else []) + phrases)


def is_mergeable(match: Match) -> bool:
    """Whether a pair may be merged without a person: some are only ever proposed."""
    return not match.forbidden and not match.comparison.doubt


def is_worth_review(match: Match, scorer: PairScorer) -> bool:
    """Whether a person should see a pair that is not merged; where names have other words it must be more probable."""
    least = scorer.same if match.comparison.match.relation == "conflict" else scorer.new
    return not match.forbidden and match.probability >= least


def features_of(pairs: Sequence[tuple[Profile, Profile]]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Features of pairs, and which of them may be merged. *Shapes:* (pairs, features) and (pairs,)."""
    compared = [compare(a, b) for a, b in pairs]
    values = np.stack([c.values for c in compared]) if compared else np.empty((0, len(FEATURES)))
    allowed = np.array([not c.forbidden and not c.doubt for c in compared], dtype=bool)
    return values, allowed
