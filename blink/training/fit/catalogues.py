"""Other catalogues that a reranker is fitted on, of entities of a knowledge base: small ones, and ones with contrary names.

In a small catalogue a name has few rivals. In one with contrary names the entity that a text is about may have lost the alias
by which the text calls it, and another entity may have it: what a reranker can still rely on is the context.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from blink.data.records import NOT_IN_CATALOGUE, Entity, Sample
from blink.files import atomic_open
from blink.kb.alias_table import normalise, without_brackets
from blink.kb.building import build_knowledge_base
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.subset import Subset, subset
from blink.model.biencoder import BiEncoder

SIZES = (300, 8000)
"""Least and most entities that are drawn besides those of the texts, evenly by logarithm."""
REMAINING = 0.88
"""Share of the entities of the texts that are in such a catalogue."""
RIVALS = 0.35
"""Share of the entities of the same names that are in a small catalogue."""
CHANGED = 0.75
"""Share of the names of texts that become contrary, where their entity has no such name yet."""
NAMESAKE, SIMILAR = 0.45, 0.65
"""Cumulative shares of contrary names that go to an entity of the name, and to one with a similar vector; others to any."""
NEIGHBOURS = slice(5, 80)
"""Ranks of the entities with similar vectors."""
HOLDERS = ("other", "other", "both", "entity")
"""Who has a contrary name as alias, as often as it is listed: the other entity, both, or the entity of the text."""
RETITLED = 0.5
"""Share of titles with the name that become the name with the kind of thing, as ``Mercury, planet``; those without it all do:
a name that an entity has in no form is no name of it, however well the text fits."""
TITLES = ("{name} ({kind})", "{name}, {kind}", "{name}, {kind}", "{name} {kind}")

_COPULA = re.compile(r"^.{0,120}? (?:is|was|are|were) (?=an? |the |one )")
_PHRASE_END = re.compile(r"[.,;(]| (?:of|in|that|who|which|from|by|for|with|and|on|at) ")
_WORD = re.compile(r"[A-Za-z][A-Za-z-]*")

Renamed = dict[int, tuple[str, list[str]]]
"""Row of an entity -> its title and aliases in a catalogue with contrary names."""


def groups(samples: Sequence[Sample], count: int, random: np.random.Generator) -> list[list[Sample]]:
    """Split texts at random into groups of like size, none of them empty."""
    order = random.permutation(len(samples))
    return [[samples[i] for i in indices] for indices in np.array_split(order, count) if len(indices)]


def small_catalogue(kb: KnowledgeBase, samples: Sequence[Sample], random: np.random.Generator) -> Subset:
    """A small part of a knowledge base that has most entities of the texts, some of the same names, and others."""
    gold = _gold_rows(samples)
    assert kb.names is not None
    strings = {s.text[m.start : m.end] for s in samples for m in s.mentions or () if m.row != NOT_IN_CATALOGUE}
    rivals = {match.row for string in sorted(strings) for match in kb.names.candidates(string)} - gold
    rows = _drawn(gold, REMAINING, random) | _drawn(rivals, RIVALS, random) | (_others(kb, random) - gold)
    removed = np.ones(len(kb.catalogue), dtype=bool)
    removed[sorted(rows)] = False
    return subset(kb, np.flatnonzero(removed))


def contrary_catalogue(
    kb: KnowledgeBase, samples: Sequence[Sample], model: BiEncoder, folder: Path, random: np.random.Generator
) -> Subset:
    """A catalogue of the entities of the texts and of others, in which names are contrary.

    Only entities with other names are encoded again.

    Args:
        kb: the whole.
        samples: texts with rows of the whole.
        model: with the candidate encoder of the knowledge base.
        folder: where the catalogue is built.
        random: draws entities and names.

    Returns:
        the knowledge base, and the new row of each entity of the whole.
    """
    assert kb.vectors is not None
    gold = _gold_rows(samples)
    renamed = contrary_names(kb, samples, gold, random)
    rows = sorted(set(renamed) | _drawn(gold, REMAINING, random) | _others(kb, random))
    folder.mkdir(parents=True)
    source = folder / "source.jsonl"
    with atomic_open(source, "w") as f:
        for row in rows:
            entity = kb.catalogue[row]
            title, aliases = renamed.get(row, (entity.title, list(entity.aliases)))
            f.write(json.dumps({"title": title, "text": entity.text, "kb_idx": str(row), "aliases": aliases}) + "\n")

    def encode(entities: Sequence[Entity]) -> np.ndarray:
        whole = [int(str(entity.kb_id)) for entity in entities]
        vectors = np.array(kb.vectors[whole], dtype=np.float32)  # type: ignore[index]
        changed = [i for i, row in enumerate(whole) if row in renamed]
        if changed:
            vectors[changed] = model.encode_entities([entities[i] for i in changed])
        return vectors

    fingerprint = "" if kb.manifest is None else kb.manifest.model
    build_knowledge_base(source, folder / "kb", encode, fingerprint)
    row_of = np.full(len(kb.catalogue), NOT_IN_CATALOGUE, dtype=np.int64)
    row_of[rows] = np.arange(len(rows))
    return Subset(KnowledgeBase.open(folder / "kb"), row_of)


def contrary_names(kb: KnowledgeBase, samples: Sequence[Sample], gold: set[int], random: np.random.Generator) -> Renamed:
    """New titles and aliases for entities of the texts, and for as many others that get their names.

    Args:
        kb: the whole.
        samples: the texts.
        gold: rows of their entities, none of which gets the name of another.
        random: draws entities and names.
    """
    assert kb.names is not None
    mentions = [(s.text[m.start : m.end], m.row) for s in samples for m in s.mentions or () if m.row != NOT_IN_CATALOGUE]
    renamed: Renamed = {}
    used: set[str] = set()
    excluded = gold | set(kb.catalogue.bad_rows)
    for i in random.permutation(len(mentions)):
        name, row = mentions[i]
        key = normalise(name)
        if row in renamed or key in used or not key or random.random() > CHANGED:
            continue
        other = _other_entity(kb, name, row, excluded, random)
        if other is None:
            break
        holder = HOLDERS[random.integers(len(HOLDERS))]
        first = _names(kb.catalogue[row], name, holder != "other", random)
        second = _names(kb.catalogue[other], name, holder != "entity", random)
        if first is not None and second is not None:
            used.add(key)
            renamed |= {row: first, other: second}
            excluded.add(other)
    return renamed


def _other_entity(kb: KnowledgeBase, name: str, row: int, excluded: set[int], random: np.random.Generator) -> int | None:
    """An entity of the name, or with a similar vector, or any; None where all are excluded."""
    assert kb.names is not None
    assert kb.vectors is not None
    draw, rows = random.random(), list[int]()
    if draw < NAMESAKE:
        rows = [match.row for match in kb.names.candidates(name)]
    elif draw < SIMILAR:
        _, near = kb.index.search(np.asarray(kb.vectors[row : row + 1], dtype=np.float32), NEIGHBOURS.stop)
        rows = near[0][NEIGHBOURS].tolist()
    rows = [r for r in rows if r >= 0 and r not in excluded]
    if rows:
        return rows[random.integers(len(rows))]
    if len(excluded) >= len(kb.catalogue):
        return None
    while (any_row := int(random.integers(len(kb.catalogue)))) in excluded:
        pass
    return any_row


def _names(entity: Entity, name: str, has_alias: bool, random: np.random.Generator) -> tuple[str, list[str]] | None:
    """Title and aliases of an entity that has a name as alias, or has not; None where its kind of thing is unknown."""
    key, shown = normalise(name), name if name[:1].isupper() else name.title()
    title = entity.title
    aliases = [alias for alias in entity.aliases if normalise(alias) != key]
    bare = normalise(without_brackets(title))
    if bare == key or f" {key} " not in f" {bare} " or random.random() < RETITLED:
        kind = kind_of(entity.text)
        if kind is None:
            return None
        title = TITLES[random.integers(len(TITLES))].format(name=shown, kind=kind)
    return title, [shown, *aliases] if has_alias else aliases


def kind_of(text: str) -> str | None:
    """The noun by which a description says what an entity is: ``An American company of ...`` -> ``company``."""
    copula = _COPULA.match(text)
    phrase = _PHRASE_END.split(text[copula.end() :] if copula else text, maxsplit=1)[0]
    words = _WORD.findall(phrase)
    return words[-1] if 0 < len(words) < 9 else None


def _gold_rows(samples: Iterable[Sample]) -> set[int]:
    return {m.row for s in samples for m in s.mentions or () if m.row != NOT_IN_CATALOGUE}


def _drawn(rows: set[int], share: float, random: np.random.Generator) -> set[int]:
    return {row for row in sorted(rows) if random.random() < share}


def _others(kb: KnowledgeBase, random: np.random.Generator) -> set[int]:
    least, most = np.log(SIZES)
    count = min(len(kb.catalogue), int(np.exp(random.uniform(least, most))))
    drawn: npt.NDArray[np.int64] = random.choice(len(kb.catalogue), count, replace=False)
    return set(drawn.tolist()) - set(kb.catalogue.bad_rows)
