"""The published layout of LUKE's models: a tar of weights, settings and the entity vocabulary.

``luke_large_500k.tar.gz`` holds ``pytorch_model.bin``, ``metadata.json`` and ``entity_vocab.tsv`` (or ``.jsonl``), but no
tokenizer; the settings name it. The same files in a folder are read too. No code of an archive is run,
and only these files are unpacked.
"""

from __future__ import annotations

import io
import json
import pickle
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blink.errors import CheckpointError, DataError, MissingFileError
from blink.files import atomic_open, read_json, read_json_lines
from blink.input_files import require_file

WEIGHTS, METADATA, TITLES, ENTITIES = "pytorch_model.bin", "metadata.json", "entity_vocab.tsv", "entity_vocab.jsonl"
MEMBERS = (WEIGHTS, METADATA, TITLES, ENTITIES)
LAYOUT = f"the published layout has {WEIGHTS}, {METADATA} and {TITLES} or {ENTITIES}"


@dataclass(frozen=True)
class EntityRow:
    """A row of the entity table.

    Attributes:
        names: titles of the row; in multilingual models with a language, as ``de:Bern``.
        count: number of links to it in the pages of the vocabulary.
    """

    names: tuple[str, ...]
    count: int = 0


@dataclass(frozen=True)
class Archive:
    """A published model.

    Attributes:
        state: weights by name.
        metadata: ``model_config``, ``max_seq_length``, ``max_entity_length``, ``max_mention_length``.
        entities: rows of the entity table, in order.
    """

    state: dict[str, Tensor]
    metadata: dict[str, Any]
    entities: list[EntityRow]

    @property
    def config(self) -> dict[str, Any]:
        """The model's settings."""
        config: dict[str, Any] = self.metadata["model_config"]
        return config

    @property
    def encoder_name(self) -> str:
        """Name of the initial encoder, which has the word tokenizer."""
        return str(self.config.get("bert_model_name", ""))


def is_archive(path: Path) -> bool:
    """Whether a path is a model in the published layout: a folder of its files, weights beside its files, or a tar."""
    if path.is_dir():
        return (path / METADATA).is_file() and not (path / "config.json").is_file()
    return path.is_file() and ((path.suffix == ".bin" and (path.parent / METADATA).is_file()) or tarfile.is_tarfile(path))


def read_archive(path: Path) -> Archive:
    """Read a published model.

    Raises:
        MissingFileError: ``path`` does not exist or lacks a file.
        CheckpointError: it cannot be read.
    """
    with ExitStack() as stack:
        files = _files(path, stack)
        for needed in (WEIGHTS, METADATA):
            if needed not in files:
                raise MissingFileError(f"{path} holds no {needed}; {LAYOUT}")
        metadata = read_json(files[METADATA])
        if not isinstance(metadata, dict) or not isinstance(metadata.get("model_config"), dict):
            raise CheckpointError(f"{METADATA} of {path} has no 'model_config'; is it a LUKE model?")
        state = read_state(files[WEIGHTS])
        if TITLES in files:  # of both, the one that the model was trained with
            entities = list(read_titles(files[TITLES]))
        elif ENTITIES in files:
            entities = list(read_entities(files[ENTITIES]))
        else:
            raise MissingFileError(f"{path} holds no entity vocabulary; {LAYOUT}")
    return Archive(state, metadata, entities)


def write_archive(archive: Archive, path: Path, compress: str = "gz") -> None:
    """Write a model as a tar in the published layout, atomically.

    Args:
        archive: the model.
        path: the tar.
        compress: ``gz``, ``bz2``, ``xz`` or, for no compression, empty.
    """
    weights = io.BytesIO()
    torch.save(archive.state, weights)
    contents = {
        WEIGHTS: weights.getvalue(),
        METADATA: json.dumps(archive.metadata, indent=2).encode(),
        TITLES: "".join(f"{row.names[0]}\t{row.count}\n" for row in archive.entities).encode(),
    }
    with atomic_open(path, "wb") as f, tarfile.open(fileobj=f, mode=f"w:{compress}") as tar:  # type: ignore[call-overload]
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def read_state(path: Path) -> dict[str, Tensor]:
    """Weights of a ``.bin`` file on the CPU; only tensors and plain values are loaded.

    Raises:
        CheckpointError: the file is damaged, or contains more than weights.
    """
    require_file(path, "give the weights of a model")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        problem = "is damaged, or holds more than weights"
        raise CheckpointError(f"{path.name} {problem}; download it again") from error
    while isinstance(state, dict) and isinstance(state.get("module"), dict):  # of DeepSpeed
        state = state["module"]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError(f"{path.name} holds no weights by name; give a file that was saved from state_dict()")
    return {k.removeprefix("module."): v for k, v in state.items()}


def read_titles(path: Path) -> Iterator[EntityRow]:
    """Rows of a ``entity_vocab.tsv``: title, tab, count.

    Raises:
        DataError: a line has another form.
    """
    with path.open(encoding="utf-8", newline="\n") as f:
        for number, line in enumerate(f, 1):
            title, tab, count = line.rstrip("\r\n").rpartition("\t")
            if not tab or not count.isdecimal():
                raise DataError(
                    f"{path.name}, line {number}: found {line.strip()[:40]!r}; title, tabulator and count are expected"
                )
            yield EntityRow((title,), int(count))


def read_entities(path: Path) -> Iterator[EntityRow]:
    """Rows of an ``entity_vocab.jsonl``: ``{"id": 3, "entities": [["Bern", "de"]], "count": 7}``, ids from 0 in order.

    Raises:
        DataError: a line has another form.
    """
    for row, (number, value) in enumerate(read_json_lines(path)):
        try:
            names = tuple(str(title) if lang is None else f"{lang}:{title}" for title, lang in value["entities"])
            if not names or value["id"] != row:
                raise ValueError
            yield EntityRow(names, int(value["count"]))
        except (KeyError, TypeError, ValueError) as error:
            problem = f"'id' {row}, 'entities' with [title, language] pairs and 'count' are expected"
            raise DataError(f"{path.name}, line {number}: {problem}") from error


@contextmanager
def _unpacked(path: Path) -> Iterator[dict[str, Path]]:
    """Unpack the files of the layout from any folder of a tar into a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="luke-") as folder:
        files: dict[str, Path] = {}
        try:
            with tarfile.open(require_file(path, "give an archive of a model")) as tar:
                for member in tar:
                    name = Path(member.name).name
                    if name in MEMBERS and member.isreg():
                        content = tar.extractfile(member)
                        assert content is not None  # a regular file has content
                        files[name] = Path(folder) / name
                        with files[name].open("wb") as f:
                            while block := content.read(1 << 24):
                                f.write(block)
        except (tarfile.TarError, EOFError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # an error of the disk, not of the archive
                raise
            raise CheckpointError(f"{path} is truncated or damaged ({error}); download it again") from error
        yield files


def _files(path: Path, stack: ExitStack) -> dict[str, Path]:
    if path.is_dir() or path.suffix == ".bin":
        folder = path if path.is_dir() else path.parent
        files = {name: folder / name for name in MEMBERS if (folder / name).is_file()}
        return files if path.is_dir() else {**files, WEIGHTS: path}
    if not path.is_file():
        raise MissingFileError(f"{path} does not exist; give a model in the published layout: a tar, a folder or its {WEIGHTS}")
    return stack.enter_context(_unpacked(path))
