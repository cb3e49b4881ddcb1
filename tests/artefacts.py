"""A table of what BLINK writes and reads: a tiny instance of each, and how it is opened and used.

`ARTEFACTS` is for tests of damage: write an instance, change a byte, and use it. The result must be that of the whole instance,
or one `BlinkError`. What is made again from other files (chunks, tables of offsets) has the result of the whole one.
"""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import artefact_files as files
from tests import artefact_models as models
from tests import artefact_work as work

Use = Callable[[Path], Any]
_LOSSES = ("truncate", "delete", "repeat_block", "zero_block", "swap")


@dataclass(frozen=True)
class Artefact:
    """Something on disk.

    Attributes:
        name: of the kind.
        make: writes an instance into an empty folder, another one for another seed; returns the files that may be damaged.
        use: opens what is in a folder and uses all of it; the result can be compared by ``==``. It may write to the folder.
        unverified: files (patterns of names) that hold what a person or another program wrote, so that a changed value is
            another value. They are still never the cause of a traceback or a hang.
        growing: files (patterns of names) that only grow: their end, or the whole of them, can be lost unnoticed.
        verify: the same as ``use`` with the option that reads everything, where there is one.
    """

    name: str
    make: Callable[[Path, int], Sequence[Path]]
    use: Use
    unverified: tuple[str, ...] = ()
    growing: tuple[str, ...] = ()
    verify: Use | None = None

    def is_verified(self, file: Path) -> bool:
        """Whether each changed value of a file must be noticed."""
        return not any(file.match(pattern) for pattern in self.unverified)

    def may_differ(self, file: Path, kind: str, n_files: int) -> bool:
        """Whether a damage of a kind (of `tests.damage`) may change the result unnoticed.

        Args:
            file: that is damaged.
            kind: of the damage.
            n_files: of the instance: another instance of a single file is another value.
        """
        is_lost = kind in _LOSSES and any(file.match(pattern) for pattern in self.growing)
        return not self.is_verified(file) or is_lost or (kind == "swap" and n_files == 1)


class Instance:
    """A whole instance of an artefact, which is copied for every damage.

    Args:
        artefact: the kind.
        folder: an empty folder.

    Attributes:
        files: relative paths of the files that may be damaged.
        result: of using the whole instance.
    """

    def __init__(self, artefact: Artefact, folder: Path) -> None:
        self.artefact, self.where = artefact, folder / "here"
        self._whole, self._other = folder / "whole", folder / "other"
        for seed, kept in ((1, self._other), (0, self._whole)):
            self.where.mkdir(parents=True)
            self.files = [file.relative_to(self.where) for file in artefact.make(self.where, seed)]
            self.where.rename(kept)
        self.result = repr(artefact.use(self.fresh()))

    def fresh(self) -> Path:
        """The whole instance in the folder that it was made in, since some artefacts hold paths."""
        shutil.rmtree(self.where, ignore_errors=True)
        shutil.copytree(self._whole, self.where, symlinks=True)
        return self.where

    def sibling(self, file: Path, number: int) -> Path | None:
        """A file of the same kind as ``file`` (relative): that of another instance, or another of this one; None for none."""
        alike = [other for other in self.files if other != file and (other.parent, other.suffix) == (file.parent, file.suffix)]
        others = [self._other / file, *(self._whole / other for other in alike)]
        there = [other for other in others if other.is_file()]
        return there[number % len(there)] if there else None


def _base(name: str, **options: Any) -> Artefact:
    make, verify = functools.partial(work.make_base, **options), functools.partial(work.use_base, verify=True)
    return Artefact(name, make, work.use_base, growing=("edits.jsonl",), verify=verify)


def _of(
    name: str, make: Callable[..., Sequence[Path]], use: Callable[..., Any], *, unverified: tuple[str, ...] = (), **options: Any
) -> Artefact:
    """An artefact of functions that take options."""
    return Artefact(name, functools.partial(make, **options), functools.partial(use, **options), unverified=unverified)


ARTEFACTS: tuple[Artefact, ...] = (
    _base("knowledge base"),
    _base("knowledge base, fp16, coarse", dtype="fp16", index="coarse"),
    _base("knowledge base, hnsw", index="hnsw"),
    _base("knowledge base, edited", edited=True),
    Artefact("chunks of a build", work.make_chunks, work.use_chunks),
    _of("shards of an encoding", work.make_shards, work.use_shards, layout="kb"),
    _of("shards of .t7", work.make_shards, work.use_shards, layout="t7"),
    _of("bulk run", work.make_bulk, work.use_bulk, ending=".jsonl"),
    _of("bulk run, gzip", work.make_bulk, work.use_bulk, ending=".jsonl.gz"),
    Artefact("pass over a dump", work.make_dump, work.use_dump),
    Artefact("checkpoints", files.make_checkpoints, files.use_checkpoints),
    Artefact("graph vectors", files.make_export, files.use_export, growing=("meta.json",)),
    Artefact("graph prior", files.make_prior, files.use_prior),
    Artefact("saved predictions", files.make_predictions, files.use_predictions),
    Artefact("ledger", files.make_ledger, files.use_ledger, growing=("*",)),
    Artefact("corrections", files.make_corrections, files.use_corrections, unverified=("*.jsonl",)),
    Artefact("mention store", files.make_store, files.use_store),
    Artefact("offsets of a catalogue", files.make_sidecar, files.use_sidecar),
    _of("stored model", models.make_model, models.use_model, adapters=False),
    _of("stored adapters", models.make_model, models.use_model, adapters=True),
    _of(
        "stored model without checksums",
        models.make_model,
        models.use_model,
        unverified=("*",),
        adapters=False,
        checksums=False,
    ),
    _of("stored encoder", models.make_encoder, models.use_encoder, unverified=("*",)),
    Artefact("original model", files.make_original, files.use_original, unverified=("*",)),
    _of("original index, hnsw", files.make_faiss, files.use_faiss, unverified=("*",), kind="hnsw"),
    _of("original index, cells", files.make_faiss, files.use_faiss, unverified=("*",), kind="ivfflat"),
)
