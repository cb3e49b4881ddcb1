"""Alignment of entities and words: entity tokens of linked texts, titles of one unambiguous word, or the words of a title."""

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

REPRESENTATIONS = ("token", "title", "words")
"""Representations of an entity, best first: an entity token, its one-word title, or the mean over its title's words."""
LINK = "ENTITY/"
LEAST_PRIOR = 0.9
"""An ambiguous name is aligned with an entity if at least this fraction of its uses refers to the entity."""


def link_word(entity: str) -> str:
    """The token of ``ENTITY/<id>`` in a text."""
    return "".join(text_words(f"{LINK}{entity}"))


def mark_lines(lines: Sequence[Sequence[str]], entities: Sequence[str], titles: Mapping[str, str]) -> list[list[str]]:
    """Insert the token of a line's entity before each occurrence of its title, or before the line if there is none.

    Args:
        lines: words of each line.
        entities: entity id of each line; empty for none.
        titles: titles by entity id.
    """
    return [_marked(line, entity, titles.get(entity, "")) for line, entity in zip(lines, entities, strict=True)]


def _marked(line: Sequence[str], entity: str, title: str) -> list[str]:
    if not entity or not line:
        return list(line)
    token, title_words = link_word(entity), name_words(title)
    n = len(title_words)
    positions = [i for i in range(len(line) - n + 1) if list(line[i : i + n]) == title_words] if n else []
    marked: list[str] = []
    for i, word in enumerate(line):
        if i in positions or (not positions and i == 0):
            marked.append(token)
        marked.append(word)
    return marked


@dataclass(frozen=True)
class Alignment:
    """Pairs of an entity and its words.

    Attributes:
        entities: rows of entities, unique and ascending. *Shape:* (p,), int64.
        starts: offset of each pair's words in ``words``, and the length of ``words``. *Shape:* (p + 1,), int64.
        words: rows of words, concatenated. *Shape:* (n,), int64.
        confidence: confidence that the words refer to the entity, above 0 and at most 1. *Shape:* (p,), float32.
        representations: index into `REPRESENTATIONS`. *Shape:* (p,), int8.
        all_entities: number of entities of the graph, aligned or not.
    """

    entities: np.ndarray
    starts: np.ndarray
    words: np.ndarray
    confidence: np.ndarray
    representations: np.ndarray
    all_entities: int

    def __len__(self) -> int:
        return len(self.entities)

    def report(self) -> dict[str, Any]:
        """Number of pairs by representation, and the fraction of the entities that they cover."""
        counts = {name: int((self.representations == i).sum()) for i, name in enumerate(REPRESENTATIONS)}
        coverage = len(self) / max(self.all_entities, 1)
        return {"pairs": len(self), **counts, "coverage": round(coverage, 4), "mean_confidence": _mean(self.confidence)}

    def singles(self) -> Alignment:
        """One-to-one pairs, which can share a row: entities represented by a token or an unambiguous title.

        If several entities have the same word, the pair with the highest confidence is kept; ties go to the lower row.
        """
        single = np.flatnonzero(self.representations < REPRESENTATIONS.index("words"))
        best: dict[int, int] = {}
        for pair in single[np.lexsort((self.entities[single], -self.confidence[single]))].tolist():
            best.setdefault(int(self.words[self.starts[pair]]), pair)
        return self.select(np.sort(np.array(list(best.values()), dtype=np.int64)))

    def select(self, pairs: np.ndarray) -> Alignment:
        """Select pairs by index, in this order."""
        word_lists = [self.words[self.starts[i] : self.starts[i + 1]] for i in pairs]
        starts = np.concatenate([[0], np.cumsum([len(words) for words in word_lists])]).astype(np.int64)
        words = np.concatenate(word_lists) if word_lists else self.words[:0]
        confidence, representations = self.confidence[pairs], self.representations[pairs]
        return Alignment(self.entities[pairs], starts, words, confidence, representations, self.all_entities)

    def batch(self, pairs: np.ndarray, device: torch.device | str = "cpu") -> AlignedBatch:
        """A batch of pairs as tensors."""
        batch = self.select(pairs)
        owners = np.repeat(np.arange(len(batch)), np.diff(batch.starts))
        arrays = (batch.entities, batch.words, owners, batch.confidence)
        return AlignedBatch(*(torch.from_numpy(np.ascontiguousarray(a)).to(device) for a in arrays))


@dataclass(frozen=True)
class AlignedBatch:
    """A batch of pairs of an entity and its words.

    Attributes:
        entities: rows of entities. *Shape:* (batch,), int64.
        words: rows of words, concatenated. *Shape:* (n,), int64.
        owners: index of the pair of each word. *Shape:* (n,), int64.
        confidence: *Shape:* (batch,), float32.
    """

    entities: Tensor
    words: Tensor
    owners: Tensor
    confidence: Tensor

    def means(self, rows: Tensor) -> Tensor:
        """Mean over the words of each pair. *Shapes:* (n, width) to (batch, width)."""
        sums = rows.new_zeros(len(self.entities), rows.shape[1]).index_add(0, self.owners, rows)
        return sums / torch.bincount(self.owners, minlength=len(self.entities)).unsqueeze(1).to(rows.dtype)


def align(
    entities: Sequence[str],
    vocabulary: Vocabulary,
    names: Iterable[TextRow] = (),
    popularity: Mapping[str, float] | None = None,
    representations: Sequence[str] = REPRESENTATIONS,
) -> Alignment:
    """Align entities with words, by the best representation that each entity has.

    A one-word title is used if the prior of the entity given the name is at least `LEAST_PRIOR`. The prior is the entity's
    popularity, divided by the sum over all entities of ``names`` with this title or alias, with add-one smoothing.

    Args:
        entities: entity ids by row.
        vocabulary: vocabulary of the text.
        names: titles and aliases, also of entities that are not in the graph, because they make names ambiguous.
        popularity: popularity by entity id, such as the number of triples; 0 by default.
        representations: the representations to use.

    Raises:
        SettingsError: a representation is unknown.
        DataError: no entity has a word.
    """
    if unknown := [name for name in representations if name not in REPRESENTATIONS]:
        raise SettingsError(f"joint.ways has {unknown[0]!r}; allowed are {', '.join(REPRESENTATIONS)}")
    table = list(names)
    titles, priors = {entry.id: entry.name for entry in table}, _NamePriors(table, popularity or {})
    pairs: list[tuple[int, list[int], float, int]] = []
    for row, entity in enumerate(entities):
        for name in (r for r in REPRESENTATIONS if r in representations):
            words, confidence = _FINDERS[name](entity, titles.get(entity, ""), vocabulary, priors)
            if words:
                pairs.append((row, words, confidence, REPRESENTATIONS.index(name)))
                break
    if not pairs:
        remedy = "give texts with ENTITY/<id> tokens, data.text_ids, or data.entity_names"
        raise DataError(
            f"none of the {len(entities):,} entities has a word of the text ({', '.join(representations)}); {remedy}"
        )
    owners, lists, confidences, kinds = zip(*pairs, strict=True)
    return Alignment(
        np.array(owners, np.int64), np.concatenate([[0], np.cumsum([len(w) for w in lists])]).astype(np.int64),
        np.array([w for words in lists for w in words], np.int64), np.array(confidences, np.float32),
        np.array(kinds, np.int8), len(entities),
    )  # fmt: skip


class _NamePriors:
    """Prior of an entity given a one-word name, from popularity."""

    def __init__(self, rows: Sequence[TextRow], popularity: Mapping[str, float]) -> None:
        self._popularity: dict[str, dict[str, float]] = defaultdict(dict)
        for row in rows:
            for name in (row.name, *row.synonyms):
                words = name_words(name)
                if len(words) == 1:
                    self._popularity[words[0]][row.id] = 1.0 + popularity.get(row.id, 0.0)

    def prior(self, word: str, entity: str) -> float:
        owners = self._popularity.get(word, {})
        return owners.get(entity, 0.0) / max(sum(owners.values()), 1e-12)


def _token(entity: str, title: str, vocabulary: Vocabulary, priors: _NamePriors) -> tuple[list[int], float]:
    return _rows([link_word(entity)], vocabulary), 1.0


def _title(entity: str, title: str, vocabulary: Vocabulary, priors: _NamePriors) -> tuple[list[int], float]:
    words = name_words(title)
    prior = priors.prior(words[0], entity) if len(words) == 1 else 0.0
    return (_rows(words, vocabulary), prior) if prior >= LEAST_PRIOR else ([], 0.0)


def _title_words(entity: str, title: str, vocabulary: Vocabulary, priors: _NamePriors) -> tuple[list[int], float]:
    """The known words of a title. The confidence is the fraction that is known, or the prior of a one-word title."""
    words = name_words(title)
    rows = _rows(words, vocabulary)
    if not rows:
        return [], 0.0
    return rows, priors.prior(words[0], entity) if len(words) == 1 else len(rows) / len(words)


_FINDERS = {"token": _token, "title": _title, "words": _title_words}


def _rows(words: Sequence[str], vocabulary: Vocabulary) -> list[int]:
    """Rows of the known words; reserved ids have no rows."""
    return [i - len(RESERVED) for i in vocabulary.ids(words) if i >= len(RESERVED)]


def _mean(values: np.ndarray) -> float:
    return round(float(values.mean()), 4) if len(values) else 0.0
