"""Blocking: names by keys that a name of the same thing shares, so that few pairs are scored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from blink.resolve.names import Name, acronyms, parse_name, sound_key

MAX_PER_KEY = 256
"""Names of a key from which on it says too little to be followed, unless it stands for a whole name."""
MAX_CANDIDATES = 12
_WORD_KEY = 4


class NameBlocks:
    """Numbered things by their names. Candidates come in the order of what they share, then of their number."""

    def __init__(self) -> None:
        self._numbers: dict[str, list[int]] = defaultdict(list)

    def add(self, number: int, names: Iterable[str]) -> None:
        """Add names of a thing; a thing may be added again with more of them."""
        for key, _ in {pair for name in names for pair in _keys(parse_name(name))}:
            numbers = self._numbers[key]
            if number not in numbers[-4:]:
                numbers.append(number)

    def candidates(self, names: Iterable[str], limit: int = MAX_CANDIDATES) -> list[int]:
        """Things that share a key with one of the names; at most ``limit``."""
        shared: dict[int, float] = defaultdict(float)
        for key, weight in {pair for name in names for pair in _keys(parse_name(name))}:
            numbers = self._numbers.get(key, ())
            if len(numbers) <= MAX_PER_KEY or weight >= 1:
                for number in set(numbers[-MAX_PER_KEY:]):
                    shared[number] += weight / (1 + len(numbers)) ** 0.25
        return sorted(shared, key=lambda number: (-shared[number], number))[:limit]


def _keys(name: Name) -> Iterator[tuple[str, float]]:
    """Keys of a name with their weights: 1 and more for keys of the whole name."""
    words = name.words
    yield f"={name.joined}", 4.0
    yield "=" + "".join(sorted(words)), 2.0
    if name.is_acronym:
        yield f"a{name.joined}", 1.0
    for letters in acronyms(name.text):
        yield f"a{letters}", 1.0
    sounds = [sound_key(word) for word in words]
    if len(words) > 1:
        yield "s" + " ".join(sorted(sounds)), 1.0
        for first, last in ((0, -1), (-1, 0)):
            yield f"l{sounds[last]} {words[first][0]}", 0.5
    for word, sound in zip(words, sounds, strict=True):
        if len(word) > 1:
            yield f"w{word[0]}{sound[:_WORD_KEY]}", 0.25
