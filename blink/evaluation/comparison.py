"""Paired comparison of two systems on the same texts: difference of F1, wins and losses, kinds of errors.

Every bootstrap resample holds the same texts for both systems, so that the variance of texts that are hard for both cancels
out of the difference (Berg-Kirkpatrick et al. 2012).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from blink.data.records import Sample
from blink.errors import MALFORMED, DataError, MismatchError
from blink.evaluation.bootstrap import cluster_sums, f1_of, middle, resample, two_sided_p
from blink.evaluation.counts import (
    CORRECT,
    GOLD_LABELS,
    MATCHINGS,
    SPURIOUS,
    Assessment,
    EvaluatedText,
    Prediction,
    assess,
    counts_of,
    gold_spans,
    group_of,
)
from blink.evaluation.matching import EntitySpan, Matching
from blink.files import read_json_lines
from blink.model.execution import EXECUTION_KEY

N_RESAMPLES = 10_000
_JSON_KEYS = {"fixed": "mended", "introduced": "made"}
NO_MENTION = "none"
"""State, in the other system, of a spurious prediction that only one system has."""
STATES = (*GOLD_LABELS, SPURIOUS, NO_MENTION)
"""States of a mention in either system; all but `CORRECT` and `NO_MENTION` are errors."""
ERRORS = tuple(label for label in STATES if label not in (CORRECT, NO_MENTION))
_REMEDY = "give files written by `blink eval FILE --rows OUT`"
_NO_CHANGE = (0.0, 0)
Key: TypeAlias = tuple[str, str, int]
"""Id and text of a record, and how many records with both precede it in its file."""


@dataclass(frozen=True, slots=True)
class Difference:
    """F1 of both systems under one matching over one set of texts.

    ``difference`` is B minus A, and ``low`` to ``high`` its 95 % bootstrap interval. ``p`` is two-sided, see `two_sided_p`.
    """

    a: float
    b: float
    difference: float
    low: float
    high: float
    p: float


@dataclass(frozen=True, slots=True)
class TextPair:
    """One text with the predictions of both systems."""

    a: EvaluatedText
    b: EvaluatedText
    assessment_a: Assessment
    assessment_b: Assessment

    def change(self, matching: Matching) -> tuple[float, int]:
        """Improvement of B over A: F1 of the text in B minus A, then wrong links in A minus B.

        F1 is 1 where there is neither gold nor prediction. Where no gold entity is in the catalogue, F1 is 0 for every
        prediction, and the wrong links break the tie.
        """
        (f1_a, wrong_a), (f1_b, wrong_b) = (
            (_text_f1(evaluated, assessment, matching), len(evaluated.predicted) - len(_hits(assessment, matching)))
            for evaluated, assessment in ((self.a, self.assessment_a), (self.b, self.assessment_b))
        )
        return f1_b - f1_a, wrong_a - wrong_b


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of `compare`.

    Attributes:
        questions: number of texts.
        covered: number of texts with all their gold in the catalogue.
        differences: by ``all weak``, ``all strong``, ``covered weak`` and ``covered strong``.
        won: number of texts that B links better than A, by matching.
        lost: number of texts that B links worse.
        wrong_links: number of links of A, and of B, that are no strong hit.
        errors_a: number of errors of A, by error of `ERRORS`.
        errors_b: the same for B.
        fixed: errors of A that B does not make, in the texts B won (strong); in JSON "mended".
        introduced: errors of B that A does not make, in the texts B lost (strong); in JSON "made".
        transitions: number of gold mentions and spurious predictions, by ``(state in A, state in B)``.
    """

    questions: int
    covered: int
    differences: Mapping[str, Difference]
    won: Mapping[str, int]
    lost: Mapping[str, int]
    wrong_links: tuple[int, int]
    errors_a: Mapping[str, int]
    errors_b: Mapping[str, int]
    fixed: Mapping[str, int]
    introduced: Mapping[str, int]
    transitions: Mapping[tuple[str, str], int]

    def to_json(self) -> dict[str, Any]:
        """The comparison as a JSON object."""
        values = {_JSON_KEYS.get(name, name): value for name, value in asdict(self).items()}
        values["transitions"] = [{"a": a, "b": b, "mentions": n} for (a, b), n in sorted(self.transitions.items())]
        return values


def read_records(path: str | Path) -> list[EvaluatedText]:
    """Read a JSON lines file of prediction records, as `prediction_records` yields them.

    Raises:
        MissingFileError: there is no such file.
        DataError: the file is empty, or a line is not a prediction record; the message names the line.
    """
    texts = []
    for number, row in read_json_lines(path, _REMEDY):
        try:
            texts.append(_evaluated(row))
        except MALFORMED as error:
            fault = f"no row of an evaluation ({type(error).__name__}: {error})"
            raise DataError(f"{path}, line {number}: {fault}; {_REMEDY}") from error
    if not texts:
        raise DataError(f"{path} is empty; {_REMEDY}")
    return texts


def execution_in(path: str | Path) -> str | None:
    """How the model of a file of prediction records ran, as its first row says; None if it does not."""
    row: Any = next((row for _, row in read_json_lines(path, _REMEDY)), None)
    execution = row.get(EXECUTION_KEY) if isinstance(row, Mapping) else None
    return execution if isinstance(execution, str) else None


def _evaluated(row: Mapping[str, Any]) -> EvaluatedText:
    gold = tuple(EntitySpan(*_span(m)) for m in row["gold"])
    predicted = tuple(Prediction(*_span(m), float(m["score"])) for m in row["predicted"])
    group = str(row.get("group") or f"id {row['id']}")
    return EvaluatedText(str(row["id"]), str(row["text"]), gold, predicted, bool(row["covered"]), group)


def _span(mention: Mapping[str, Any]) -> tuple[str | None, int | None, int | None]:
    """Id, start and end of a mention; each may be None."""
    for key, kind in (("id", str), ("start", int), ("end", int)):
        if not isinstance(mention[key], kind | None):
            raise TypeError(f"{key} is {type(mention[key]).__name__}, not {kind.__name__} or null")
    return mention["id"], mention["start"], mention["end"]


def with_gold(texts: Sequence[EvaluatedText], samples: Iterable[Sample]) -> list[EvaluatedText]:
    """Replace the gold of texts with that of samples, whose rows are those of the catalogue in use.

    Raises:
        MismatchError: a text is not among the samples.
        DataError: its sample carries no gold mentions in characters.
    """
    by_key = _keyed(list(samples))
    relabelled = []
    for key, evaluated in _keyed(texts).items():
        sample = by_key.get(key)
        if sample is None:
            raise MismatchError(f"question {evaluated.id!r} is not in the file of gold; give the file that was evaluated")
        if sample.mentions is None:
            raise DataError(f"sample {sample.id!r} has no gold mentions with character offsets; give a labelled file")
        relabelled.append(replace(evaluated, gold=gold_spans(sample), covered=sample.covered, group=group_of(sample)))
    return relabelled


def paired(a: Sequence[EvaluatedText], b: Sequence[EvaluatedText]) -> list[TextPair]:
    """Pair the links of two systems, in the order of A.

    Raises:
        MismatchError: the two have different texts, or different gold.
    """
    by_key_a, by_key_b = _keyed(a), _keyed(b)
    if by_key_a.keys() != by_key_b.keys():
        raise MismatchError(_unlike(by_key_a, by_key_b))
    for key, evaluated in by_key_a.items():
        if Counter(_bare(evaluated.gold)) != Counter(_bare(by_key_b[key].gold)):
            raise MismatchError(
                f"question {evaluated.id!r} has other gold in A than in B, so they were evaluated on different files or "
                "knowledge bases; evaluate both on the same, or name what counts: --gold FILE"
            )
    return [TextPair(evaluated, by_key_b[key], assess(evaluated), assess(by_key_b[key])) for key, evaluated in by_key_a.items()]


def _bare(gold: Sequence[EntitySpan]) -> list[tuple[str, int | None, int | None]]:
    return [(t.id or "", t.start, t.end) for t in gold]


def _keyed(items: Sequence[Any]) -> dict[Key, Any]:
    """Texts or samples by their key."""
    counts: Counter[tuple[str, str]] = Counter()
    keyed: dict[Key, Any] = {}
    for item in items:
        name = (item.id, item.text)
        keyed[(item.id, item.text, counts[name])] = item
        counts[name] += 1
    return keyed


def _unlike(by_key_a: Mapping[Key, EvaluatedText], by_key_b: Mapping[Key, EvaluatedText]) -> str:
    only_a, only_b = ([key for key in one if key not in other] for one, other in ((by_key_a, by_key_b), (by_key_b, by_key_a)))
    example = (only_a or only_b)[0][0]
    summary = f"A has {len(by_key_a)} questions and B {len(by_key_b)}; {len(only_a)} are only in A, {len(only_b)} only in B"
    return f"{summary} (such as {example!r}); compare rows of the same file"


def compare(pairs: Sequence[TextPair], *, n_resamples: int = N_RESAMPLES, seed: int = 0, by_group: bool = False) -> Comparison:
    """Compare two systems.

    Args:
        pairs: from `paired`, at least one.
        n_resamples: bootstrap resamples of the texts.
        seed: of the resampling. The result does not depend on the order of the texts.
        by_group: resample groups of texts (``EvaluatedText.group``), such as paraphrases, instead of texts.
    """
    covered = [pair for pair in pairs if pair.a.covered]
    differences = {
        f"{name} {matching}": difference
        for name, subset in (("all", pairs), ("covered", covered))
        for matching, difference in _differences(subset, n_resamples, seed, by_group).items()
    }
    changes = {matching: [pair.change(matching) for pair in pairs] for matching in MATCHINGS}
    won = [pair for pair, change in zip(pairs, changes["strong"], strict=True) if change > _NO_CHANGE]
    lost = [pair for pair, change in zip(pairs, changes["strong"], strict=True) if change < _NO_CHANGE]
    return Comparison(
        questions=len(pairs),
        covered=len(covered),
        differences=differences,
        won={matching: sum(c > _NO_CHANGE for c in values) for matching, values in changes.items()},
        lost={matching: sum(c < _NO_CHANGE for c in values) for matching, values in changes.items()},
        wrong_links=(_wrong_links(pair.assessment_a for pair in pairs), _wrong_links(pair.assessment_b for pair in pairs)),
        errors_a=_in_order(sum((_errors(pair.assessment_a) for pair in pairs), Counter())),
        errors_b=_in_order(sum((_errors(pair.assessment_b) for pair in pairs), Counter())),
        fixed=_in_order(sum((_errors(pair.assessment_a) - _errors(pair.assessment_b) for pair in won), Counter())),
        introduced=_in_order(sum((_errors(pair.assessment_b) - _errors(pair.assessment_a) for pair in lost), Counter())),
        transitions=dict(sum((_transitions(pair) for pair in pairs), Counter())),
    )


def _differences(pairs: Sequence[TextPair], n_resamples: int, seed: int, by_group: bool) -> dict[Matching, Difference]:
    if not pairs:
        return {matching: Difference(0.0, 0.0, 0.0, 0.0, 0.0, 1.0) for matching in MATCHINGS}
    rows = [(*counts_of(pair.a, pair.assessment_a), *counts_of(pair.b, pair.assessment_b)) for pair in pairs]
    counts = np.array(rows, dtype=np.int64)
    resampled = resample(cluster_sums(counts, [pair.a.group for pair in pairs] if by_group else None), n_resamples, seed)
    total = counts.sum(0, keepdims=True)
    differences: dict[Matching, Difference] = {}
    for column, matching in enumerate(MATCHINGS):
        (a,), (b,) = (_f1(total, side, column) for side in (0, 4))
        spread = _f1(resampled, 4, column) - _f1(resampled, 0, column)
        differences[matching] = Difference(float(a), float(b), float(b - a), *middle(spread), two_sided_p(spread))
    return differences


def _f1(counts: npt.NDArray[np.int64], side: Literal[0, 4], column: int) -> npt.NDArray[np.float64]:
    return f1_of(counts[:, side + column], counts[:, side + 2] + counts[:, side + 3])


def _text_f1(evaluated: EvaluatedText, assessment: Assessment, matching: Matching) -> float:
    mentions = len(evaluated.predicted) + len(evaluated.gold)
    return 2 * len(_hits(assessment, matching)) / mentions if mentions else 1.0


def _hits(assessment: Assessment, matching: Matching) -> tuple[tuple[int, int], ...]:
    return assessment.weak if matching == "weak" else assessment.strong


def _errors(assessment: Assessment) -> Counter[str]:
    labels = [*assessment.gold_labels, *(label for label in assessment.predicted_labels if label == SPURIOUS)]
    return Counter(label for label in labels if label != CORRECT)


def _wrong_links(assessments: Iterable[Assessment]) -> int:
    return sum(label != CORRECT for assessment in assessments for label in assessment.predicted_labels)


def _in_order(errors: Counter[str]) -> dict[str, int]:
    return {label: errors[label] for label in ERRORS}


def _transitions(pair: TextPair) -> Counter[tuple[str, str]]:
    """Pairs of states: gold mentions pair by span and entity, spurious predictions pair with equal ones of the other system."""
    moves = Counter(zip(_gold_states(pair.a, pair.assessment_a), _gold_states(pair.b, pair.assessment_b), strict=True))
    in_a, in_b = (_spurious(*side) for side in ((pair.a, pair.assessment_a), (pair.b, pair.assessment_b)))
    moves[SPURIOUS, SPURIOUS] += (in_a & in_b).total()
    moves[SPURIOUS, NO_MENTION] += (in_a - in_b).total()
    moves[NO_MENTION, SPURIOUS] += (in_b - in_a).total()
    return +moves


def _gold_states(evaluated: EvaluatedText, assessment: Assessment) -> list[str]:
    """Labels of the gold mentions in an order that does not depend on that of the file."""
    keys = _bare(evaluated.gold)
    return [assessment.gold_labels[i] for i in sorted(range(len(keys)), key=lambda i: repr(keys[i]))]


def _spurious(evaluated: EvaluatedText, assessment: Assessment) -> Counter[tuple[str | None, int | None, int | None]]:
    labelled = zip(evaluated.predicted, assessment.predicted_labels, strict=True)
    return Counter((p.id, p.start, p.end) for p, label in labelled if label == SPURIOUS)


def examples(pairs: Sequence[TextPair], number: int, *, won: bool) -> list[TextPair]:
    """The ``number`` texts with the largest improvement, or deterioration (strong, see `TextPair.change`); ties by order."""
    changes = [(pair.change("strong"), pair) for pair in pairs]
    selected = [(change, pair) for change, pair in changes if (change > _NO_CHANGE if won else change < _NO_CHANGE)]
    # sorted() is stable with reverse too: ties stay in the order of the file.
    return [pair for _, pair in sorted(selected, key=lambda item: item[0], reverse=won)][:number]


def format_comparison(comparison: Comparison) -> str:
    """Format a comparison for a terminal."""
    return "\n".join(
        [
            f"questions = {comparison.questions}",
            f"covered questions = {comparison.covered}",
            "",
            *_difference_lines(comparison.differences),
            "",
            f"{'B against A':<14}  {'won':>6}  {'lost':>6}  {'equal':>6}",
            *(_won_line(comparison, matching) for matching in MATCHINGS),
            "",
            f"{'errors':<16}  {'in A':>6}  {'in B':>6}  {'fixed in won':>13}  {'new in lost':>12}",
            *(_error_line(comparison, label) for label in ERRORS),
            "{:<16}  {:>6}  {:>6}".format("wrong links", *comparison.wrong_links),
            "",
            *_transition_lines(comparison.transitions),
        ]
    )


def _difference_lines(differences: Mapping[str, Difference]) -> list[str]:
    head = f"{'F1':<14}  {'A':>6}  {'B':>6}   {'B - A':>7}  {'95 % interval':<18}  {'p':>6}"
    return [
        head,
        *(
            f"{name:<14}  {d.a:>6.4f}  {d.b:>6.4f}   {d.difference:>+7.4f}  [{d.low:+.4f}, {d.high:+.4f}]  {d.p:>6.4f}"
            for name, d in differences.items()
        ),
    ]


def _won_line(comparison: Comparison, matching: str) -> str:
    won, lost = comparison.won[matching], comparison.lost[matching]
    return f"{matching:<14}  {won:>6}  {lost:>6}  {comparison.questions - won - lost:>6}"


def _error_line(comparison: Comparison, label: str) -> str:
    counts = (comparison.errors_a[label], comparison.errors_b[label], comparison.fixed[label], comparison.introduced[label])
    return "{:<16}  {:>6}  {:>6}  {:>13}  {:>12}".format(label, *counts)


def _transition_lines(transitions: Mapping[tuple[str, str], int]) -> list[str]:
    width = max(map(len, STATES))
    rows = [f"{'A down, B across':<{width}}  " + "  ".join(f"{state:>{width}}" for state in STATES)]
    for a in STATES:
        cells = (str(transitions.get((a, b), 0) or "-") for b in STATES)
        rows.append(f"{a:<{width}}  " + "  ".join(f"{cell:>{width}}" for cell in cells))
    return rows
