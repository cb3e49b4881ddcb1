"""Which words stand for which entities: tokens made by linking, titles of one unambiguous word, or the words of a title."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from blink.errors import DataError, SettingsError
from blink.kglm.lm.vocabulary import RESERVED, Vocabulary
from blink.kglm.lm.words import name_words, text_words
from blink.kglm.text_init.tables import TextRow

WAYS = ("token", "title", "words")
"""How an entity can be represented, best first: by a token of the text, by its one-word title, by the mean of its title."""
LINK = "ENTITY/"
LEAST_PRIOR = 0.9
"""From this share of a name's use on, a name that several entities have counts as one entity's."""


def link_word(entity: str) -> str:
    """The word that ``ENTITY/<id>`` in a text becomes."""
    return "".join(text_words(f"{LINK}{entity}"))


def mark_lines(lines: Sequence[Sequence[str]], entities: Sequence[str], titles: Mapping[str, str]) -> list[list[str]]:
    """Put the token of the entity that a line is about before each place where its title stands, or else before the line.

    Args:
        lines: words, line by line.
        entities: id of the entity that each line is about; empty for none.
        titles: of entities, by id.
    """
    return [_marked(line, entity, titles.get(entity, "")) for line, entity in zip(lines, entities, strict=True)]


def _marked(line: Sequence[str], entity: str, title: str) -> list[str]:
    if not entity or not line:
        return list(line)
    token, title_words = link_word(entity), name_words(title)
    n = len(title_words)
    places = [i for i in range(len(line) - n + 1) if list(line[i : i + n]) == title_words] if n else []
    marked: list[str] = []
    for i, word in enumerate(line):
        if i in places or (not places and i == 0):
            marked.append(token)
        marked.append(word)
    return marked


@dataclass(frozen=True)
class Alignment:
    """Entities and the words that stand for them.

    Attributes:
        entities: rows of entities, each once, ascending. *Shape:* (p,), int64.
        starts: where each one's words begin in ``words``, and the end. *Shape:* (p + 1,), int64.
        words: rows of words, one entity's after another's. *Shape:* (n,), int64.
        confidence: how sure it is that the words mean the entity, above 0 up to 1. *Shape:* (p,), float32.
        ways: index into `WAYS`. *Shape:* (p,), int8.
        all_entities: entities of the graph, aligned or not.
    """

    entities: np.ndarray
    starts: np.ndarray
    words: np.ndarray
    confidence: np.ndarray
    ways: np.ndarray
    all_entities: int

    def __len__(self) -> int:
        return len(self.entities)

    def report(self) -> dict[str, Any]:
        """How many pairs there are of each way, and which share of the entities they cover."""
        counts = {way: int((self.ways == i).sum()) for i, way in enumerate(WAYS)}
        share = len(self) / max(self.all_entities, 1)
        return {"pairs": len(self), **counts, "coverage": round(share, 4), "mean_confidence": _mean(self.confidence)}

    def singles(self) -> Alignment:
        """Those represented by a token or an unambiguous title, each word for one entity: what rows can be shared by.

        Where several entities have the same word, the surest has it; of equally sure ones, that with the smaller row.
        """
        one = np.flatnonzero(self.ways < WAYS.index("words"))
        best: dict[int, int] = {}
        for pair in one[np.lexsort((self.entities[one], -self.confidence[one]))].tolist():
            best.setdefault(int(self.words[self.starts[pair]]), pair)
        return self.part(np.sort(np.array(list(best.values()), dtype=np.int64)))

    def part(self, pairs: np.ndarray) -> Alignment:
        """Some of the pairs, in the order given."""
        pieces = [self.words[self.starts[i] : self.starts[i + 1]] for i in pairs]
        starts = np.concatenate([[0], np.cumsum([len(p) for p in pieces])]).astype(np.int64)
        words = np.concatenate(pieces) if pieces else self.words[:0]
        return Alignment(self.entities[pairs], starts, words, self.confidence[pairs], self.ways[pairs], self.all_entities)

    def batch(self, pairs: np.ndarray, device: torch.device | str = "cpu") -> AlignedBatch:
        """Some of the pairs as tensors."""
        some = self.part(pairs)
        arrays = (some.entities, some.words, np.repeat(np.arange(len(some)), np.diff(some.starts)), some.confidence)
        return AlignedBatch(*(torch.from_numpy(np.ascontiguousarray(a)).to(device) for a in arrays))


@dataclass(frozen=True)
class AlignedBatch:
    """Pairs of entities and words.

    Attributes:
        entities: rows. *Shape:* (batch,), int64.
        words: rows, one entity's after another's. *Shape:* (n,), int64.
        owners: which of the entities each word belongs to. *Shape:* (n,), int64.
        confidence: *Shape:* (batch,), float32.
    """

    entities: Tensor
    words: Tensor
    owners: Tensor
    confidence: Tensor

    def means(self, rows: Tensor) -> Tensor:
        """Mean over the words of each entity. *Shapes:* (n, width) to (batch, width)."""
        sums = rows.new_zeros(len(self.entities), rows.shape[1]).index_add(0, self.owners, rows)
        return sums / torch.bincount(self.owners, minlength=len(self.entities)).unsqueeze(1).to(rows.dtype)


def align(
    entities: Sequence[str],
    vocabulary: Vocabulary,
    names: Iterable[TextRow] = (),
    popularity: Mapping[str, float] | None = None,
    ways: Sequence[str] = WAYS,
) -> Alignment:
    """Find the words that stand for entities; of several ways, the best one counts.

    A title of one word is taken if no other entity of ``names`` has it as title or alias, or if this one has at least
    `LEAST_PRIOR` of its use: an entity's share of the popularity of all that have the name, each counted once more than said.

    Args:
        entities: ids, by row.
        vocabulary: of the text.
        names: titles and aliases; of entities that the graph lacks too, since those make names ambiguous.
        popularity: of entities, such as how many triples each has; 0 for those not named.
        ways: of `WAYS`, those that may be used.

    Raises:
        SettingsError: a way is unknown.
        DataError: no entity has any word.
    """
    if unknown := [way for way in ways if way not in WAYS]:
        raise SettingsError(f"joint.ways has {unknown[0]!r}; allowed are {', '.join(WAYS)}")
    rows = list(names)
    titles, priors = {row.id: row.name for row in rows}, _Priors(rows, popularity or {})
    found: list[tuple[int, list[int], float, int]] = []
    for place, entity in enumerate(entities):
        for way in (w for w in WAYS if w in ways):
            words, confidence = _WAYS[way](entity, titles.get(entity, ""), vocabulary, priors)
            if words:
                found.append((place, words, confidence, WAYS.index(way)))
                break
    if not found:
        remedy = "give texts with ENTITY/<id> tokens, data.text_ids, or data.entity_names"
        raise DataError(f"none of the {len(entities):,} entities has a word of the text ({', '.join(ways)}); {remedy}")
    owners, lists, confidences, kinds = zip(*found, strict=True)
    return Alignment(
        np.array(owners, np.int64), np.concatenate([[0], np.cumsum([len(w) for w in lists])]).astype(np.int64),
        np.array([w for words in lists for w in words], np.int64), np.array(confidences, np.float32),
        np.array(kinds, np.int8), len(entities),
    )  # fmt: skip


class _Priors:
    """Whose a name is: an entity's share of the popularity of all that have it."""

    def __init__(self, rows: Sequence[TextRow], popularity: Mapping[str, float]) -> None:
        self._of: dict[str, dict[str, float]] = defaultdict(dict)
        for row in rows:
            for name in (row.name, *row.synonyms):
                words = name_words(name)
                if len(words) == 1:
                    self._of[words[0]][row.id] = 1.0 + popularity.get(row.id, 0.0)

    def share(self, word: str, entity: str) -> float:
        owners = self._of.get(word, {})
        return owners.get(entity, 0.0) / max(sum(owners.values()), 1e-12)


def _token(entity: str, title: str, vocabulary: Vocabulary, priors: _Priors) -> tuple[list[int], float]:
    return _rows([link_word(entity)], vocabulary), 1.0


def _title(entity: str, title: str, vocabulary: Vocabulary, priors: _Priors) -> tuple[list[int], float]:
    words = name_words(title)
    prior = priors.share(words[0], entity) if len(words) == 1 else 0.0
    return (_rows(words, vocabulary), prior) if prior >= LEAST_PRIOR else ([], 0.0)


def _title_words(entity: str, title: str, vocabulary: Vocabulary, priors: _Priors) -> tuple[list[int], float]:
    """The known words of a title; as sure as many of them are known, and of a single word, as its share of that name."""
    words = name_words(title)
    known = _rows(words, vocabulary)
    if not known:
        return [], 0.0
    return known, priors.share(words[0], entity) if len(words) == 1 else len(known) / len(words)


_WAYS = {"token": _token, "title": _title, "words": _title_words}


def _rows(words: Sequence[str], vocabulary: Vocabulary) -> list[int]:
    """Rows of the known words; the reserved ids of a vocabulary have none."""
    return [i - len(RESERVED) for i in vocabulary.ids(words) if i >= len(RESERVED)]


def _mean(values: np.ndarray) -> float:
    return round(float(values.mean()), 4) if len(values) else 0.0
