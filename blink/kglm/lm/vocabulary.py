"""The vocabulary of a model: four reserved ids, then the most frequent words of its training text."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from blink.errors import DataError, SettingsError
from blink.files import atomic_open, require_file
from blink.input_files import read_lines_of

PAD, BOS, EOS, UNK = range(4)
RESERVED = ("<PAD>", "<BOS>", "<EOS>", "unk")
"""Words of the ids 0 to 3: padding, beginning and end of a line, unknown word."""
VOCABULARY_FILE = "vocabulary.tsv"


@dataclass(frozen=True)
class Vocabulary:
    """Words by id.

    Attributes:
        words: the words, most frequent first; their ids follow the reserved ids.
        counts: frequency of each word in the training text.
    """

    words: tuple[str, ...]
    counts: tuple[int, ...]

    def __len__(self) -> int:
        """Number of ids, reserved ids included."""
        return len(RESERVED) + len(self.words)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words, len(RESERVED))} | {RESERVED[UNK]: UNK}

    def id(self, word: str) -> int:
        """Id of a word; `UNK` if it is not in the vocabulary."""
        return self._ids.get(word, UNK)

    def ids(self, words: Iterable[str]) -> list[int]:
        """Ids of words."""
        return [self._ids.get(word, UNK) for word in words]

    def text(self, ids: Iterable[int]) -> str:
        """The words of ids, joined by blanks, without padding and line ends."""
        return " ".join(self.word(i) for i in ids if i not in (PAD, BOS, EOS))

    def word(self, number: int) -> str:
        """The word of an id."""
        return RESERVED[number] if number < len(RESERVED) else self.words[number - len(RESERVED)]

    @cached_property
    def digest(self) -> str:
        """Hash of the words in order. Perplexities are comparable only between models with the same hash."""
        return hashlib.sha256("\n".join(self.words).encode()).hexdigest()[:16]

    def save(self, path: Path) -> None:
        """Write ``word<TAB>count`` lines, atomically."""
        with atomic_open(path) as f:
            f.writelines(f"{word}\t{count}\n" for word, count in zip(self.words, self.counts, strict=True))

    @classmethod
    def load(cls, path: str | Path) -> Vocabulary:
        """Read a file of `save`, or a list of words, one per line, whose counts are then 0.

        Raises:
            MissingFileError: the file does not exist.
            DataError: the file is empty, not UTF-8, or has a duplicate word.
        """
        path = require_file(path, "give a vocabulary file, such as the one in the folder of a run")
        words, counts = [], []
        for number, line in enumerate(_lines(path), 1):
            word, _, count = line.partition("\t")
            if not word or (count and not count.isdigit()):
                raise DataError(f"{path}, line {number}: {line[:40]!r}; lines are word<TAB>count, or one word")
            words.append(word)
            counts.append(int(count or 0))
        if len(set(words)) < len(words) or set(words) & set(RESERVED):
            duplicate = next((w for w, n in Counter([*words, *RESERVED]).items() if n > 1), "")
            raise DataError(f"{path} holds {duplicate!r} twice, or as a reserved word; remove one")
        return cls(tuple(words), tuple(counts))


def _lines(path: Path) -> list[str]:
    lines = read_lines_of(path)
    if not lines:
        raise DataError(f"{path} holds no words; give a vocabulary of at least one")
    return lines


def count_words(lines: Iterable[Sequence[str]]) -> Counter[str]:
    """Count the words of lines."""
    counts: Counter[str] = Counter()
    for words in lines:
        counts.update(words)
    return counts


def build_vocabulary(counts: Counter[str], size: int, least_count: int = 1) -> Vocabulary:
    """Build a vocabulary of the most frequent words; ties are broken alphabetically.

    Args:
        counts: counts of `count_words`.
        size: maximum number of words, without the reserved ids; 0 keeps all.
        least_count: minimum count of a word.

    Raises:
        SettingsError: no word has the minimum count.
    """
    ordered = sorted((item for item in counts.items() if item[0] not in RESERVED), key=lambda item: (-item[1], item[0]))
    frequent = [(word, count) for word, count in ordered if count >= least_count][: size or None]
    if not frequent:
        raise SettingsError(
            f"no word is left of {len(counts)} at vocabulary.least_count {least_count}; take a smaller one, or give more text"
        )
    return Vocabulary(tuple(word for word, _ in frequent), tuple(count for _, count in frequent))
