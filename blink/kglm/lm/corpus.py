"""Text files to word ids, and to batches of lines of similar length."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from blink.decompression import lines_of, open_stream
from blink.errors import DataError, MissingFileError
from blink.kglm.lm.vocabulary import BOS, EOS, PAD, UNK, Vocabulary
from blink.kglm.lm.words import surface_text, text_words

SUMMARY_SUFFIX = ".sm"
POOL = 50
"""Batches whose lines are sorted by length together: enough for little padding, few enough for a random order."""


def read_lines(source: str | Path) -> Iterator[str]:
    """Yield the lines of a text file (plain or ``.gz``), or one line per ``.sm`` summary file.

    Args:
        source: a file, or a folder of ``.sm`` files, read in the order of their names.

    Raises:
        MissingFileError: the file does not exist, or the folder has no summaries.
        DataError: a file is empty, not UTF-8, or a damaged archive.
    """
    path = Path(source)
    if path.is_dir():
        files = sorted(path.glob(f"*{SUMMARY_SUFFIX}"))
        if not files:
            raise MissingFileError(f"{path} holds no {SUMMARY_SUFFIX} files; name a text file, or a folder of summaries")
        for file in files:
            yield surface_text(_joined_lines(file))
    elif path.suffix == SUMMARY_SUFFIX:
        yield surface_text(_joined_lines(path))
    else:
        yield from _plain_lines(path)


def _check(path: Path) -> None:
    if not path.is_file():
        raise MissingFileError(f"there is no text file {path}; give one line of text per entity, plain or .gz")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty (0 bytes); give a text file of at least one line")


def _joined_lines(path: Path) -> str:
    return " ".join(_plain_lines(path))


def _plain_lines(path: Path) -> Iterator[str]:
    _check(path)
    number = 0
    with open_stream(path) as f:
        try:
            for number, line in enumerate(lines_of(f, path), 1):  # noqa: B007 - named in errors
                yield line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}, line {number}: not UTF-8 (byte {error.start}); save the file as UTF-8") from error
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path} is no sound gzip file ({error}); compress it again") from error
    if number == 0:
        raise DataError(f"{path} holds no text; give a text file of at least one line")


@dataclass(frozen=True)
class Corpus:
    """Lines of word ids, concatenated in one array.

    Attributes:
        raw: ids of all words. Unknown words have ids from ``vocabulary_size`` on, one per spelling. *Shape:* (words,), int32.
        starts: offset of each line in ``raw``, and the length of ``raw``. *Shape:* (lines + 1,), int64.
        characters: length of each line: its characters, one blank after each word, and one line end. *Shape:* (lines,), int64.
        rows: line number in the source. *Shape:* (lines,), int64.
        vocabulary_size: number of ids of the vocabulary.
    """

    raw: np.ndarray
    starts: np.ndarray
    characters: np.ndarray
    rows: np.ndarray
    vocabulary_size: int

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Number of words of each line, without `BOS` and `EOS`. *Shape:* (lines,)"""
        return np.diff(self.starts)

    @property
    def words(self) -> int:
        """Number of words, without ends of lines."""
        return len(self.raw)

    @property
    def unknown_words(self) -> int:
        """Number of words that are not in the vocabulary."""
        return int((self.raw >= self.vocabulary_size).sum())

    @property
    def unknown_types(self) -> int:
        """Number of distinct words that are not in the vocabulary."""
        return len(np.unique(self.raw[self.raw >= self.vocabulary_size]))

    def line(self, number: int) -> np.ndarray:
        """Word ids of a line, unknown words as `UNK`. *Shape:* (words,), int64."""
        raw = self.raw[self.starts[number] : self.starts[number + 1]].astype(np.int64)
        return np.where(raw < self.vocabulary_size, raw, UNK)

    def select(self, lines: Sequence[int] | np.ndarray) -> Corpus:
        """A corpus of these lines, in this order."""
        rows = np.asarray(lines, dtype=np.int64)
        line_ids = [self.raw[self.starts[i] : self.starts[i + 1]] for i in rows]
        starts = np.concatenate([[0], np.cumsum(self.lengths[rows])]).astype(np.int64)
        raw = np.concatenate(line_ids) if line_ids else self.raw[:0]
        return Corpus(raw, starts, self.characters[rows], self.rows[rows], self.vocabulary_size)

    def batch(self, lines: Sequence[int] | np.ndarray) -> Tensor:
        """Lines between `BOS` and `EOS`, padded on the right. *Shape:* (lines, 2 + most words), int64."""
        line_ids = [self.line(int(i)) for i in lines]
        ids = np.full((len(line_ids), 2 + max(map(len, line_ids))), PAD, dtype=np.int64)
        ids[:, 0] = BOS
        for row, words in enumerate(line_ids):
            ids[row, 1 : 1 + len(words)] = words
            ids[row, 1 + len(words)] = EOS
        return torch.from_numpy(ids)


def encode(lines: Sequence[Sequence[str]], vocabulary: Vocabulary, longest: int = 0) -> Corpus:
    """Map lines of words to ids; empty lines are dropped.

    Args:
        lines: words of each line.
        vocabulary: maps words to ids.
        longest: maximum number of words of a line, the rest is truncated; 0 truncates nothing.
    """
    unknown: dict[str, int] = {}
    line_ids, characters, rows = [], [], []
    for row, line in enumerate(lines):
        words = line[: longest or None]
        if not words:
            continue
        ids = np.array(vocabulary.ids(words), dtype=np.int32)
        for position in np.flatnonzero(ids == UNK):
            ids[position] = len(vocabulary) + unknown.setdefault(words[int(position)], len(unknown))
        line_ids.append(ids)
        characters.append(sum(map(len, words)) + len(words) + 1)
        rows.append(row)
    starts = np.concatenate([[0], np.cumsum([len(p) for p in line_ids])]).astype(np.int64)
    raw = np.concatenate(line_ids) if line_ids else np.zeros(0, np.int32)
    return Corpus(raw, starts, np.array(characters, np.int64), np.array(rows, np.int64), len(vocabulary))


def read_words(source: str | Path) -> list[list[str]]:
    """Read a text and split its lines into words, see `read_lines`.

    Raises:
        DataError: the text has no words.
    """
    lines = [text_words(line) for line in read_lines(source)]
    if not any(lines):
        raise DataError(f"{source} holds no words, only blanks or punctuation; give text")
    return lines


class LineStream:
    """An endless stream of batches of lines. Batch n is a function of n alone, so a run can resume at any step.

    Each epoch has every line once. In a shuffled epoch, random pools of `POOL` batches are sorted by length before they are
    divided into batches, and the batches are shuffled. This keeps padding low.

    Args:
        corpus: the lines.
        lines: batch size in lines.
        seed: seed of the order.
        shuffle: shuffle the lines; otherwise they keep the order of the text.
    """

    def __init__(self, corpus: Corpus, lines: int, seed: int, shuffle: bool = True) -> None:
        if len(corpus) == 0:
            raise DataError("the training text has no lines; give more text, or keep a larger share of it")
        self.corpus, self._lines, self._seed, self._shuffle = corpus, lines, seed, shuffle
        self._epoch, self._order = -1, list[np.ndarray]()

    def __len__(self) -> int:
        """Number of batches of an epoch."""
        return -(-len(self.corpus) // self._lines)

    def batch(self, number: int) -> Tensor:
        """Batch ``number`` of the stream. *Shape:* (lines, time), int64."""
        epoch, index = divmod(number, len(self))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._epoch_order(epoch)
        return self.corpus.batch(self._order[index])

    def _epoch_order(self, epoch: int) -> list[np.ndarray]:
        rows = np.arange(len(self.corpus))
        if not self._shuffle:
            return [rows[i : i + self._lines] for i in range(0, len(rows), self._lines)]
        return bucketed(self.corpus.lengths, self._lines, np.random.default_rng([self._seed, epoch]))


def bucketed(lengths: np.ndarray, size: int, random: np.random.Generator) -> list[np.ndarray]:
    """Divide all rows into random batches of similar length.

    Args:
        lengths: length of each row. *Shape:* (n,)
        size: batch size; one batch may be smaller.
        random: source of random numbers.
    """
    shuffled = random.permutation(len(lengths))
    ordered: list[np.ndarray] = []
    for begin in range(0, len(shuffled), size * POOL):
        pool = shuffled[begin : begin + size * POOL]
        ordered.append(pool[np.argsort(lengths[pool], kind="stable")])
    rows = np.concatenate(ordered)
    batches = [rows[i : i + size] for i in range(0, len(rows), size)]
    return [batches[i] for i in random.permutation(len(batches))]
