"""The words a model knows: the most frequent ones of its training text, behind four reserved ids."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from blink.errors import DataError, SettingsError
from blink.files import atomic_open, require_file

PAD, BOS, EOS, UNK = range(4)
RESERVED = ("<PAD>", "<BOS>", "<EOS>", "unk")
"""Spelling of the ids 0 to 3: padding, beginning and end of a line, a word that is not in the vocabulary."""
VOCABULARY_FILE = "vocabulary.tsv"


@dataclass(frozen=True)
class Vocabulary:
    """Words by id.

    Attributes:
        words: the words, most frequent first; the first one has the id after the reserved ones.
        counts: how often each stands in the text that was counted.
    """

    words: tuple[str, ...]
    counts: tuple[int, ...]

    def __len__(self) -> int:
        """Number of ids, the reserved ones included."""
        return len(RESERVED) + len(self.words)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words, len(RESERVED))} | {RESERVED[UNK]: UNK}

    def id(self, word: str) -> int:
        """Id of a word; `UNK` for one that is not known."""
        return self._ids.get(word, UNK)

    def ids(self, words: Iterable[str]) -> list[int]:
        """Ids of words."""
        return [self._ids.get(word, UNK) for word in words]

    def text(self, ids: Iterable[int]) -> str:
        """The words of ids, joined by blanks; padding and line ends are left out."""
        return " ".join(self.spelling(i) for i in ids if i not in (PAD, BOS, EOS))

    def spelling(self, number: int) -> str:
        """The word of an id."""
        return RESERVED[number] if number < len(RESERVED) else self.words[number - len(RESERVED)]

    @cached_property
    def digest(self) -> str:
        """A hash of the words in their order: models of the same hash are compared by perplexity."""
        return hashlib.sha256("\n".join(self.words).encode()).hexdigest()[:16]

    def save(self, path: Path) -> None:
        """Write ``word<TAB>count`` lines, atomically."""
        with atomic_open(path) as f:
            f.writelines(f"{word}\t{count}\n" for word, count in zip(self.words, self.counts, strict=True))

    @classmethod
    def load(cls, path: str | Path) -> Vocabulary:
        """Read what `save` wrote; of a plain list of words, one a line, the counts are 0.

        Raises:
            MissingFileError: there is no such file.
            DataError: it is empty, not UTF-8, or a word stands in it twice.
        """
        path = require_file(path, "name a vocabulary file, as it lies in the folder of a run")
        words, counts = [], []
        for number, line in enumerate(_lines(path), 1):
            word, _, count = line.partition("\t")
            if not word or (count and not count.isdigit()):
                raise DataError(f"{path}, line {number}: {line[:40]!r}; lines are word<TAB>count, or one word")
            words.append(word)
            counts.append(int(count or 0))
        if len(set(words)) < len(words) or set(words) & set(RESERVED):
            twice = next((w for w, n in Counter([*words, *RESERVED]).items() if n > 1), "")
            raise DataError(f"{path} holds {twice!r} twice, or as a reserved word; leave one out")
        return cls(tuple(words), tuple(counts))


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    if not lines:
        raise DataError(f"{path} holds no words; give a vocabulary of at least one")
    return lines


def count_words(lines: Iterable[Sequence[str]]) -> Counter[str]:
    """How often each word stands in lines of words."""
    counts: Counter[str] = Counter()
    for words in lines:
        counts.update(words)
    return counts


def build_vocabulary(counts: Counter[str], size: int, least_count: int = 1) -> Vocabulary:
    """Keep the most frequent words; of equally frequent ones, those first in the alphabet.

    Args:
        counts: as `count_words` makes them.
        size: most words to keep, beside the reserved ones; 0 keeps all.
        least_count: leave out rarer words.

    Raises:
        SettingsError: no word is left.
    """
    ordered = sorted((item for item in counts.items() if item[0] not in RESERVED), key=lambda item: (-item[1], item[0]))
    kept = [(word, count) for word, count in ordered if count >= least_count][: size or None]
    if not kept:
        raise SettingsError(
            f"no word is left of {len(counts)} at vocabulary.least_count {least_count}; take a smaller one, or give more text"
        )
    return Vocabulary(tuple(word for word, _ in kept), tuple(count for _, count in kept))
