"""Text files to word ids, and to batches of lines of about the same length."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from blink.errors import DataError, MissingFileError
from blink.kglm.lm.vocabulary import BOS, EOS, PAD, UNK, Vocabulary
from blink.kglm.lm.words import surface_text, text_words

SUMMARY_SUFFIX = ".sm"
POOL = 50
"""Batches whose lines are sorted by length together: enough for little padding, few enough to mix well."""


def read_lines(source: str | Path) -> Iterator[str]:
    """Lines of a text: of a file, plain or ``.gz``, a line each; of ``.sm`` summaries, a file each.

    Args:
        source: a file, or a folder of ``.sm`` files, which are read in the order of their names.

    Raises:
        MissingFileError: there is no such file, or no summaries in the folder.
        DataError: a file is empty, not UTF-8, or a broken archive.
    """
    path = Path(source)
    if path.is_dir():
        files = sorted(path.glob(f"*{SUMMARY_SUFFIX}"))
        if not files:
            raise MissingFileError(f"{path} holds no {SUMMARY_SUFFIX} files; name a text file, or a folder of summaries")
        for file in files:
            yield surface_text(_whole(file))
    elif path.suffix == SUMMARY_SUFFIX:
        yield surface_text(_whole(path))
    else:
        yield from _plain_lines(path)


def _check(path: Path) -> None:
    if not path.is_file():
        raise MissingFileError(f"there is no text file {path}; give one line of text per entity, plain or .gz")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty (0 bytes); give a text file of at least one line")


def _whole(path: Path) -> str:
    return " ".join(_plain_lines(path))


def _plain_lines(path: Path) -> Iterator[str]:
    _check(path)
    number = 0
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as f:
        try:
            for number, line in enumerate(f, 1):  # noqa: B007 - named in errors
                yield line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}, line {number}: not UTF-8 (byte {error.start}); save the file as UTF-8") from error
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path} is no sound gzip file ({error}); compress it again") from error
    if number == 0:
        raise DataError(f"{path} holds no text; give a text file of at least one line")


@dataclass(frozen=True)
class Corpus:
    """Lines of word ids, one after another in one array.

    Attributes:
        raw: ids of all words. Unknown words have ids from ``known`` on, a number per spelling. *Shape:* (words,), int32.
        starts: where each line begins, and the end. *Shape:* (lines + 1,), int64.
        characters: of each line, counting one behind each word, and one for the end of the line. *Shape:* (lines,), int64.
        rows: which line of the source each one was. *Shape:* (lines,), int64.
        known: number of ids of the vocabulary.
    """

    raw: np.ndarray
    starts: np.ndarray
    characters: np.ndarray
    rows: np.ndarray
    known: int

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Words of each line, without `BOS` and `EOS`. *Shape:* (lines,)"""
        return np.diff(self.starts)

    @property
    def words(self) -> int:
        """Number of words, without ends of lines."""
        return len(self.raw)

    @property
    def unknown_words(self) -> int:
        """How many words are not in the vocabulary."""
        return int((self.raw >= self.known).sum())

    @property
    def unknown_types(self) -> int:
        """How many different spellings are not in the vocabulary."""
        return len(np.unique(self.raw[self.raw >= self.known]))

    def line(self, number: int) -> np.ndarray:
        """Word ids of a line, unknown words as `UNK`. *Shape:* (words,), int64."""
        raw = self.raw[self.starts[number] : self.starts[number + 1]].astype(np.int64)
        return np.where(raw < self.known, raw, UNK)

    def select(self, lines: Sequence[int] | np.ndarray) -> Corpus:
        """Some of the lines, in the order given."""
        chosen = np.asarray(lines, dtype=np.int64)
        parts = [self.raw[self.starts[i] : self.starts[i + 1]] for i in chosen]
        starts = np.concatenate([[0], np.cumsum(self.lengths[chosen])]).astype(np.int64)
        raw = np.concatenate(parts) if parts else self.raw[:0]
        return Corpus(raw, starts, self.characters[chosen], self.rows[chosen], self.known)

    def batch(self, lines: Sequence[int] | np.ndarray) -> Tensor:
        """Lines between `BOS` and `EOS`, padded on the right. *Shape:* (lines, 2 + most words), int64."""
        chosen = [self.line(int(i)) for i in lines]
        ids = np.full((len(chosen), 2 + max(map(len, chosen))), PAD, dtype=np.int64)
        ids[:, 0] = BOS
        for row, words in enumerate(chosen):
            ids[row, 1 : 1 + len(words)] = words
            ids[row, 1 + len(words)] = EOS
        return torch.from_numpy(ids)


def encode(lines: Sequence[Sequence[str]], vocabulary: Vocabulary, longest: int = 0) -> Corpus:
    """Lines of words to ids; lines without words are left out.

    Args:
        lines: words, line by line.
        vocabulary: what is known.
        longest: words that are kept of each line; 0 keeps all.
    """
    unknown: dict[str, int] = {}
    parts, characters, rows = [], [], []
    for row, line in enumerate(lines):
        words = line[: longest or None]
        if not words:
            continue
        ids = np.array(vocabulary.ids(words), dtype=np.int32)
        for place in np.flatnonzero(ids == UNK):
            ids[place] = len(vocabulary) + unknown.setdefault(words[int(place)], len(unknown))
        parts.append(ids)
        characters.append(sum(map(len, words)) + len(words) + 1)
        rows.append(row)
    starts = np.concatenate([[0], np.cumsum([len(p) for p in parts])]).astype(np.int64)
    raw = np.concatenate(parts) if parts else np.zeros(0, np.int32)
    return Corpus(raw, starts, np.array(characters, np.int64), np.array(rows, np.int64), len(vocabulary))


def read_words(source: str | Path) -> list[list[str]]:
    """Words of each line of a text, see `read_lines`.

    Raises:
        DataError: there is not one word in it.
    """
    lines = [text_words(line) for line in read_lines(source)]
    if not any(lines):
        raise DataError(f"{source} holds no words, only blanks or punctuation; give text")
    return lines


class LineStream:
    """An endless stream of batches of lines: batch n is a function of n alone, so a run goes on anywhere.

    Each pass holds every line once. In a shuffled pass, `POOL` batches' worth of lines drawn at random are sorted by length
    before they are cut into batches, and the batches are shuffled: little of a batch is padding.

    Args:
        corpus: the lines.
        lines: lines of a batch.
        seed: of the order.
        shuffle: otherwise lines come as they stand in the text.
    """

    def __init__(self, corpus: Corpus, lines: int, seed: int, shuffle: bool = True) -> None:
        if len(corpus) == 0:
            raise DataError("the training text has no line that is left; give more text, or keep a larger share of it")
        self.corpus, self._lines, self._seed, self._shuffle = corpus, lines, seed, shuffle
        self._pass, self._order = -1, list[np.ndarray]()

    def __len__(self) -> int:
        """Batches of a pass."""
        return -(-len(self.corpus) // self._lines)

    def batch(self, number: int) -> Tensor:
        """Batch ``number`` of the stream. *Shape:* (lines, time), int64."""
        turn, place = divmod(number, len(self))
        if turn != self._pass:
            self._pass, self._order = turn, self._pass_order(turn)
        return self.corpus.batch(self._order[place])

    def _pass_order(self, turn: int) -> list[np.ndarray]:
        everyone = np.arange(len(self.corpus))
        if not self._shuffle:
            return [everyone[i : i + self._lines] for i in range(0, len(everyone), self._lines)]
        return bucketed(self.corpus.lengths, self._lines, np.random.default_rng([self._seed, turn]))


def bucketed(lengths: np.ndarray, size: int, random: np.random.Generator) -> list[np.ndarray]:
    """Rows in random batches whose members have about the same length; every row is in one of them.

    Args:
        lengths: of the rows. *Shape:* (n,)
        size: rows of a batch; one batch has what is left over.
        random: where chance comes from.
    """
    shuffled = random.permutation(len(lengths))
    ordered: list[np.ndarray] = []
    for begin in range(0, len(shuffled), size * POOL):
        pool = shuffled[begin : begin + size * POOL]
        ordered.append(pool[np.argsort(lengths[pool], kind="stable")])
    rows = np.concatenate(ordered)
    batches = [rows[i : i + size] for i in range(0, len(rows), size)]
    return [batches[i] for i in random.permutation(len(batches))]
