"""The packed dataset: flat, memory-mapped arrays of tokens, links and pages.

=====================  =======================  =========================================================
``word_ids.npy``       (words,) int32           tokens of all windows, without ``<s>`` and ``</s>``
``word_offsets.npy``   (windows + 1,) int64     offset of each window's first token
``entity_ids.npy``     (links,) int32           entity row of each link
``entity_spans.npy``   (links, 2) int16         first token and end (exclusive), counted from the window's first token
``entity_offsets.npy`` (windows + 1,) int64     offset of each window's first link
``page_ids.npy``       (windows,) int32         entity row of the page, or -1
=====================  =======================  =========================================================

The folder also contains ``metadata.json``, ``entity_vocab.jsonl`` and the tokenizer's files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blink.data.arrays import map_array, read_archive
from blink.errors import CheckpointError, MissingFileError
from blink.files import atomic_open, read_json
from examples.pretraining.vocabulary import EntityVocab, read_vocab
from examples.pretraining.windows import Window

METADATA_FILE = "metadata.json"
VOCAB_FILE = "entity_vocab.jsonl"
FORMAT = 1
_REMEDY = "make it with: python -m examples.cli pretraining build-dataset"

Arrays = dict[str, npt.NDArray[Any]]
LAYOUT: dict[str, np.dtype[Any]] = {
    "word_ids": np.dtype(np.int32),
    "word_offsets": np.dtype(np.int64),
    "entity_ids": np.dtype(np.int32),
    "entity_spans": np.dtype(np.int16),
    "entity_offsets": np.dtype(np.int64),
    "page_ids": np.dtype(np.int32),
}


@dataclass(frozen=True)
class Item:
    """A window of the dataset.

    Attributes:
        words: token ids. *Shape:* (words,), int32.
        entities: entity rows. *Shape:* (links,), int32.
        spans: first token and end (exclusive) of each link. *Shape:* (links, 2), int16.
        page: entity row of the page, or -1.
    """

    words: npt.NDArray[np.int32]
    entities: npt.NDArray[np.int32]
    spans: npt.NDArray[np.int16]
    page: int


class PackedDataset(Sequence[Item]):
    """A folder written by ``build-dataset``, with memory-mapped arrays.

    Attributes:
        metadata: lengths, counts and the tokenizer's class.

    Raises:
        MissingFileError: the folder or a file of it is not there.
        CheckpointError: the arrays are inconsistent, or of another version.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not (self.folder / METADATA_FILE).is_file():
            problem = "is not complete" if self.folder.is_dir() else "does not exist"
            raise MissingFileError(f"the dataset {self.folder} {problem}; {_REMEDY}")
        self.metadata: dict[str, Any] = read_json(self.folder / METADATA_FILE, _REMEDY)
        self._arrays: Arrays = {name: map_array(self.folder / f"{name}.npy", _REMEDY) for name in LAYOUT}
        if not self._is_sound():
            raise CheckpointError(f"the arrays of {self.folder} do not belong together; remove the folder and {_REMEDY}")

    def _is_sound(self) -> bool:
        words, entities, size = (
            self._arrays["word_offsets"],
            self._arrays["entity_offsets"],
            self.metadata.get("number_of_items"),
        )
        ends = (int(words[-1]), int(entities[-1])) == (len(self._arrays["word_ids"]), len(self._arrays["entity_ids"]))
        lengths = {len(words) - 1, len(entities) - 1, len(self._arrays["page_ids"])} == {size}
        return ends and lengths and self.metadata.get("format") == FORMAT

    def __len__(self) -> int:
        return len(self._arrays["page_ids"])

    def __getitem__(self, index: Any) -> Any:
        """The window at an index, or a list of windows for a slice."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        arrays = self._arrays
        words = slice(*(int(n) for n in arrays["word_offsets"][index : index + 2]))
        links = slice(*(int(n) for n in arrays["entity_offsets"][index : index + 2]))
        return Item(
            arrays["word_ids"][words],
            arrays["entity_ids"][links],
            arrays["entity_spans"][links],
            int(arrays["page_ids"][index]),
        )

    def lengths(self) -> npt.NDArray[np.int64]:
        """Words of each window. *Shape:* (windows,)."""
        return np.diff(self._arrays["word_offsets"])

    def vocab(self) -> EntityVocab:
        """The entity vocabulary of the links."""
        return read_vocab(self.folder / VOCAB_FILE)


def to_arrays(windows: Sequence[tuple[int, Window]]) -> Arrays:
    """Pack pairs of page row and window into the arrays of a dataset."""
    spans = [span for _, window in windows for span in window.spans]
    values: dict[str, Any] = {
        "word_ids": [word for _, window in windows for word in window.words],
        "word_offsets": np.cumsum([0, *(len(window.words) for _, window in windows)]),
        "entity_ids": [entity for _, window in windows for entity in window.entities],
        "entity_spans": np.array(spans, dtype=np.int16).reshape(-1, 2),
        "entity_offsets": np.cumsum([0, *(len(window.entities) for _, window in windows)]),
        "page_ids": [page for page, _ in windows],
    }
    return {name: np.asarray(values[name], dtype=kind) for name, kind in LAYOUT.items()}


def save_shard(path: Path, arrays: Arrays) -> None:
    """Write the arrays of a shard, atomically."""
    with atomic_open(path, "wb") as f:
        np.savez(f, allow_pickle=False, **arrays)


def load_shard(path: Path) -> Arrays:
    """Read what `save_shard` wrote.

    Raises:
        CheckpointError, DataError: the file is damaged.
    """
    stored = read_archive(path, "remove it and build again")
    if missing := sorted(LAYOUT.keys() - stored.keys()):
        raise CheckpointError(f"{path} lacks {missing[0]}; remove it and build again")
    return {name: stored[name] for name in LAYOUT}


def join_shards(shards: Sequence[Path], folder: Path) -> dict[str, int]:
    """Write the arrays of a dataset from those of its shards, with one shard in memory.

    Returns:
        numbers of windows, tokens and links.
    """
    sizes = dict.fromkeys(LAYOUT, 0)
    for shard in shards:
        for name, values in load_shard(shard).items():
            sizes[name] += len(values) - name.endswith("_offsets")
    joined = {name: _mapped(folder, name, size) for name, size in sizes.items()}
    done = dict.fromkeys(LAYOUT, 0)
    for shard in shards:
        arrays = load_shard(shard)
        for unit in ("word", "entity"):
            arrays[f"{unit}_offsets"] = arrays[f"{unit}_offsets"][1:] + done[f"{unit}_ids"]
        for name, values in arrays.items():
            first = done[name] + name.endswith("_offsets")
            joined[name][first : first + len(values)] = values
            done[name] += len(values)
    for values in joined.values():
        values.flush()
    return {"number_of_items": sizes["page_ids"], "number_of_words": sizes["word_ids"], "number_of_links": sizes["entity_ids"]}


def _mapped(folder: Path, name: str, size: int) -> np.memmap[Any, Any]:
    shape = (size, 2) if name == "entity_spans" else (size + name.endswith("_offsets"),)
    return np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=LAYOUT[name], shape=shape)
