"""Two systems on the same questions: is one better, where, and on which kind of error.

The comparison is paired: both systems are drawn on the same questions in every resample of the bootstrap, so that what
makes a question hard for both does not blur the difference (Berg-Kirkpatrick et al. 2012).
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
from blink.errors import DataError, MismatchError
from blink.evaluation.bootstrap import cluster_sums, f1_of, middle, resample, two_sided_p
from blink.evaluation.matching import Matching, Triple
from blink.evaluation.report import (
    CORRECT,
    GOLD_LABELS,
    SPURIOUS,
    Assessment,
    Prediction,
    Question,
    assess,
    counts_of,
    gold_triples,
    group_of,
)
from blink.files import read_json_lines

SAMPLES = 10_000
ABSENT = "none"
"""The other side of a spurious prediction that only one system made."""
STATES = (*GOLD_LABELS, SPURIOUS, ABSENT)
"""What a mention may be in either system; all but `CORRECT` and `ABSENT` are errors."""
ERRORS = tuple(label for label in STATES if label not in (CORRECT, ABSENT))
_MATCHINGS: tuple[Matching, ...] = ("weak", "strong")
_REMEDY = "give files written by `blink eval FILE --rows OUT`"
_NONE = (0.0, 0)  # no change
Key: TypeAlias = tuple[str, str, int]
"""Id and text of a question, and how many like it stand before it in its file."""


@dataclass(frozen=True, slots=True)
class Difference:
    """F1 of both systems under one matching over one set of questions.

    ``difference`` is B less A; its middle 95 % over the resamples is from ``low`` to ``high``; ``p`` is two-sided, see
    `two_sided_p`.
    """

    a: float
    b: float
    difference: float
    low: float
    high: float
    p: float


@dataclass(frozen=True, slots=True)
class Pair:
    """One question as both systems answered it."""

    a: Question
    b: Question
    of_a: Assessment
    of_b: Assessment

    def change(self, matching: Matching) -> tuple[float, int]:
        """How much better B is: F1 of this question in B less that in A, then wrong links in A less those in B.

        Where there is nothing to find, finding nothing is right. Where nothing can be found, as of gold outside the
        catalogue, F1 is 0 whatever is linked, and wrong links decide.
        """
        (f1_a, wrong_a), (f1_b, wrong_b) = (
            (_question_f1(question, found, matching), len(question.predicted) - len(_hits(found, matching)))
            for question, found in ((self.a, self.of_a), (self.b, self.of_b))
        )
        return f1_b - f1_a, wrong_a - wrong_b


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of `compare`.

    Attributes:
        questions: how many there are.
        covered: how many of them have all their gold in the catalogue.
        differences: by ``all weak``, ``all strong``, ``covered weak`` and ``covered strong``.
        won: questions that B answers better than A, by matching.
        lost: questions that B answers worse.
        wrong_links: links of A, and of B, that are no strong hit.
        errors_a: how often A makes each error of `ERRORS`.
        errors_b: how often B does.
        mended: errors of A that B does not make, in the questions B won (strong).
        made: errors of B that A does not make, in the questions B lost (strong).
        transitions: ``(state in A, state in B)`` of every gold mention and spurious prediction, with how many there are.
    """

    questions: int
    covered: int
    differences: Mapping[str, Difference]
    won: Mapping[str, int]
    lost: Mapping[str, int]
    wrong_links: tuple[int, int]
    errors_a: Mapping[str, int]
    errors_b: Mapping[str, int]
    mended: Mapping[str, int]
    made: Mapping[str, int]
    transitions: Mapping[tuple[str, str], int]

    def to_json(self) -> dict[str, Any]:
        """The comparison as an object of plain values."""
        values = asdict(self)
        values["differences"] = {name: asdict(found) for name, found in self.differences.items()}
        values["transitions"] = [{"a": a, "b": b, "mentions": n} for (a, b), n in sorted(self.transitions.items())]
        return values


def read_rows(path: str | Path) -> list[Question]:
    """Read a file of rows, one question a line, as `question_rows` makes them.

    Raises:
        MissingFileError: there is no such file.
        DataError: it is empty, or a line is no such row; the message names the line.
    """
    questions = []
    for number, row in read_json_lines(path, _REMEDY):
        try:
            questions.append(_question(row))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            found = f"no row of an evaluation ({type(error).__name__}: {error})"
            raise DataError(f"{path}, line {number}: {found}; {_REMEDY}") from error
    if not questions:
        raise DataError(f"{path} is empty; {_REMEDY}")
    return questions


def _question(row: Mapping[str, Any]) -> Question:
    gold = tuple(Triple(m["id"], m["start"], m["end"]) for m in row["gold"])
    predicted = tuple(Prediction(m["id"], m["start"], m["end"], float(m["score"])) for m in row["predicted"])
    group = str(row.get("group") or f"id {row['id']}")
    return Question(str(row["id"]), str(row["text"]), gold, predicted, bool(row["covered"]), group)


def with_gold(questions: Sequence[Question], samples: Iterable[Sample]) -> list[Question]:
    """Put the gold of samples, whose rows are those of the catalogue in use, in place of the questions' own.

    Raises:
        MismatchError: a question is not among the samples.
        DataError: its sample carries no gold mentions in characters.
    """
    by_key = _keyed(list(samples))
    made = []
    for key, question in _keyed(questions).items():
        sample = by_key.get(key)
        if sample is None:
            raise MismatchError(f"question {question.id!r} is not in the file of gold; give the file that was evaluated")
        if sample.mentions is None:
            raise DataError(f"sample {sample.id!r} has no gold mentions with character offsets; give a labelled file")
        made.append(replace(question, gold=gold_triples(sample), covered=sample.covered, group=group_of(sample)))
    return made


def paired(a: Sequence[Question], b: Sequence[Question]) -> list[Pair]:
    """Bring the answers of two systems together, in the order of A.

    Raises:
        MismatchError: they answered different questions, or their gold differs.
    """
    left, right = _keyed(a), _keyed(b)
    if left.keys() != right.keys():
        raise MismatchError(_unlike(left, right))
    for key, question in left.items():
        if Counter(_bare(question.gold)) != Counter(_bare(right[key].gold)):
            raise MismatchError(
                f"question {question.id!r} has other gold in A than in B, so they were evaluated on different files or "
                "knowledge bases; evaluate both on the same, or name what counts: --gold FILE"
            )
    return [Pair(question, right[key], assess(question), assess(right[key])) for key, question in left.items()]


def _bare(gold: Sequence[Triple]) -> list[tuple[str, int | None, int | None]]:
    return [(t.id or "", t.start, t.end) for t in gold]


def _keyed(items: Sequence[Any]) -> dict[Key, Any]:
    """Questions or samples by what tells them apart."""
    seen: Counter[tuple[str, str]] = Counter()
    keyed: dict[Key, Any] = {}
    for item in items:
        name = (item.id, item.text)
        keyed[(item.id, item.text, seen[name])] = item
        seen[name] += 1
    return keyed


def _unlike(left: Mapping[Key, Question], right: Mapping[Key, Question]) -> str:
    only_a, only_b = ([key for key in one if key not in other] for one, other in ((left, right), (right, left)))
    example = (only_a or only_b)[0][0]
    found = f"A has {len(left)} questions and B {len(right)}; {len(only_a)} are only in A, {len(only_b)} only in B"
    return f"{found} (such as {example!r}); compare rows of the same file"


def compare(pairs: Sequence[Pair], *, samples: int = SAMPLES, seed: int = 0, by_group: bool = False) -> Comparison:
    """Compare two systems.

    Args:
        pairs: from `paired`, at least one.
        samples: bootstrap resamples of the questions.
        seed: of the resampling; the result depends on nothing else, nor on the order of the questions.
        by_group: draw groups of questions (``Question.group``), such as paraphrases, rather than questions.
    """
    covered = [pair for pair in pairs if pair.a.covered]
    differences = {
        f"{name} {matching}": found
        for name, some in (("all", pairs), ("covered", covered))
        for matching, found in _differences(some, samples, seed, by_group).items()
    }
    changes = {matching: [pair.change(matching) for pair in pairs] for matching in _MATCHINGS}
    won = [pair for pair, change in zip(pairs, changes["strong"], strict=True) if change > _NONE]
    lost = [pair for pair, change in zip(pairs, changes["strong"], strict=True) if change < _NONE]
    return Comparison(
        questions=len(pairs),
        covered=len(covered),
        differences=differences,
        won={matching: sum(c > _NONE for c in found) for matching, found in changes.items()},
        lost={matching: sum(c < _NONE for c in found) for matching, found in changes.items()},
        wrong_links=(_wrong_links(pair.of_a for pair in pairs), _wrong_links(pair.of_b for pair in pairs)),
        errors_a=_in_order(sum((_errors(pair.of_a) for pair in pairs), Counter())),
        errors_b=_in_order(sum((_errors(pair.of_b) for pair in pairs), Counter())),
        mended=_in_order(sum((_errors(pair.of_a) - _errors(pair.of_b) for pair in won), Counter())),
        made=_in_order(sum((_errors(pair.of_b) - _errors(pair.of_a) for pair in lost), Counter())),
        transitions=dict(sum((_transitions(pair) for pair in pairs), Counter())),
    )


def _differences(pairs: Sequence[Pair], samples: int, seed: int, by_group: bool) -> dict[Matching, Difference]:
    if not pairs:
        return {matching: Difference(0.0, 0.0, 0.0, 0.0, 0.0, 1.0) for matching in _MATCHINGS}
    rows = [(*counts_of(pair.a, pair.of_a), *counts_of(pair.b, pair.of_b)) for pair in pairs]
    counts = np.array(rows, dtype=np.int64)
    drawn = resample(cluster_sums(counts, [pair.a.group for pair in pairs] if by_group else None), samples, seed)
    total = counts.sum(0, keepdims=True)
    found = {}
    for column, matching in enumerate(_MATCHINGS):
        (a,), (b,) = (_f1(total, side, column) for side in (0, 4))
        spread = _f1(drawn, 4, column) - _f1(drawn, 0, column)
        found[matching] = Difference(float(a), float(b), float(b - a), *middle(spread), two_sided_p(spread))
    return found


def _f1(counts: npt.NDArray[np.int64], side: Literal[0, 4], column: int) -> npt.NDArray[np.float64]:
    return f1_of(counts[:, side + column], counts[:, side + 2] + counts[:, side + 3])


def _question_f1(question: Question, found: Assessment, matching: Matching) -> float:
    mentions = len(question.predicted) + len(question.gold)
    return 2 * len(_hits(found, matching)) / mentions if mentions else 1.0


def _hits(found: Assessment, matching: Matching) -> tuple[tuple[int, int], ...]:
    return found.weak if matching == "weak" else found.strong


def _errors(found: Assessment) -> Counter[str]:
    labels = [*found.gold_labels, *(label for label in found.predicted_labels if label == SPURIOUS)]
    return Counter(label for label in labels if label != CORRECT)


def _wrong_links(assessments: Iterable[Assessment]) -> int:
    return sum(label != CORRECT for found in assessments for label in found.predicted_labels)


def _in_order(errors: Counter[str]) -> dict[str, int]:
    return {label: errors[label] for label in ERRORS}


def _transitions(pair: Pair) -> Counter[tuple[str, str]]:
    """Gold mentions pair off by span and entity, spurious predictions where both systems made the same one."""
    moves = Counter(zip(_gold_states(pair.a, pair.of_a), _gold_states(pair.b, pair.of_b), strict=True))
    in_a, in_b = (_spurious(q, found) for q, found in ((pair.a, pair.of_a), (pair.b, pair.of_b)))
    moves[SPURIOUS, SPURIOUS] += (in_a & in_b).total()
    moves[SPURIOUS, ABSENT] += (in_a - in_b).total()
    moves[ABSENT, SPURIOUS] += (in_b - in_a).total()
    return +moves


def _gold_states(question: Question, found: Assessment) -> list[str]:
    """Labels of the gold mentions in an order that does not depend on that of the file."""
    keys = _bare(question.gold)
    return [found.gold_labels[place] for place in sorted(range(len(keys)), key=lambda place: repr(keys[place]))]


def _spurious(question: Question, found: Assessment) -> Counter[tuple[str | None, int | None, int | None]]:
    labelled = zip(question.predicted, found.predicted_labels, strict=True)
    return Counter((p.id, p.start, p.end) for p, label in labelled if label == SPURIOUS)


def examples(pairs: Sequence[Pair], number: int, *, won: bool) -> list[Pair]:
    """The questions that B won, or lost, by most (strong, see `Pair.change`); of equals the first."""
    changes = [(pair.change("strong"), pair) for pair in pairs]
    chosen = [(change, pair) for change, pair in changes if (change > _NONE if won else change < _NONE)]
    # Stable in either direction: equals stay in the order of the file.
    return [pair for _, pair in sorted(chosen, key=lambda both: both[0], reverse=won)][:number]


def format_comparison(found: Comparison) -> str:
    """Lay out a comparison for a terminal."""
    return "\n".join(
        [
            f"questions = {found.questions}",
            f"covered questions = {found.covered}",
            "",
            *_difference_lines(found.differences),
            "",
            f"{'B against A':<14}  {'won':>6}  {'lost':>6}  {'equal':>6}",
            *(_won_line(found, matching) for matching in _MATCHINGS),
            "",
            f"{'errors':<16}  {'in A':>6}  {'in B':>6}  {'mended in won':>13}  {'made in lost':>12}",
            *(_error_line(found, label) for label in ERRORS),
            "{:<16}  {:>6}  {:>6}".format("wrong links", *found.wrong_links),
            "",
            *_transition_lines(found.transitions),
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


def _won_line(found: Comparison, matching: str) -> str:
    won, lost = found.won[matching], found.lost[matching]
    return f"{matching:<14}  {won:>6}  {lost:>6}  {found.questions - won - lost:>6}"


def _error_line(found: Comparison, label: str) -> str:
    counts = (found.errors_a[label], found.errors_b[label], found.mended[label], found.made[label])
    return "{:<16}  {:>6}  {:>6}  {:>13}  {:>12}".format(label, *counts)


def _transition_lines(transitions: Mapping[tuple[str, str], int]) -> list[str]:
    width = max(map(len, STATES))
    rows = [f"{'A down, B across':<{width}}  " + "  ".join(f"{state:>{width}}" for state in STATES)]
    for a in STATES:
        cells = (str(transitions.get((a, b), 0) or "-") for b in STATES)
        rows.append(f"{a:<{width}}  " + "  ".join(f"{cell:>{width}}" for cell in cells))
    return rows
