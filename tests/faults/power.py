"""What a disk may hold after a loss of power: a model of ext4 and XFS, and the states that follow from recorded calls.

Names (files made, renamed, removed) reach the disk in their order, but at any time after the call: all up to the last folder
that was synchronized are there, of the later ones the first few. Bytes reach the disk in any order, independently of names:
those of a file up to its last `fsync` are there, of later ones any. The size of a file may be there before its bytes, which are
then zeros. So a file that is renamed without `fsync` may be empty, zeros, or half.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.disk import Call, Op

EXCHANGE = 2
"""Flag of a call that gives each of two files the name of the other."""
SECTOR = 512
"""Bytes that a disk writes at once."""
FOLDER = -1
"""What stands for a folder in `Names`."""
Names = dict[str, int]
"""Path relative to the watched folder -> number of its file, or `FOLDER`."""


@dataclass
class Stored:
    """A file: what programs see of it, and what is certainly on the disk.

    Attributes:
        now: its bytes.
        durable: its bytes when it was last synchronized.
        clean: whether nothing was written since then.
        modified: time of its last change in ns, as the end of the writer left it; None if it was removed.
    """

    now: bytes = b""
    durable: bytes = b""
    clean: bool = True
    modified: int | None = None


@dataclass(frozen=True)
class CrashState:
    """What the disk holds: bytes of each file by relative path, None for a folder.

    Attributes:
        content: of the files, with the time of their last change.
        after: number of calls before the loss of power.
        about: how it differs from what the programs saw.
    """

    content: dict[str, tuple[bytes, int | None] | None]
    after: int
    about: str

    def key(self) -> int:
        """Equal for states that are equal but for the moment."""
        return hash(tuple(sorted((path, None if of is None else of[0]) for path, of in self.content.items())))

    def restore(self, folder: Path) -> None:
        """Make a folder hold this state."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for path, stored in sorted(self.content.items()):
            target = folder / path
            if stored is None:
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(stored[0])
            if stored[1] is not None:
                os.utime(target, ns=(stored[1], stored[1]))


@dataclass
class Disk:
    """A disk while calls change it.

    Attributes:
        files: by a number of this model, since the numbers of the system are given again.
        spaces: names after each change of names.
        forced: index in ``spaces`` up to which changes are on the disk.
    """

    root: str
    files: dict[int, Stored] = field(default_factory=dict)
    spaces: list[Names] = field(default_factory=lambda: [{}])
    forced: int = 0
    _live: dict[int, int] = field(default_factory=dict)
    _touched: list[frozenset[str]] = field(default_factory=lambda: [frozenset()])

    @classmethod
    def of(cls, folder: Path, before: Path) -> Disk:
        """The disk before the first call: the files of ``before``, a copy of what ``folder`` held."""
        disk, names = cls(str(folder.resolve())), Names()
        for path in sorted(before.rglob("*")):
            relative = str(path.relative_to(before))
            if path.is_dir():
                names[relative] = FOLDER
            else:
                content, number = path.read_bytes(), len(disk.files)
                disk.files[number] = Stored(content, content, True, path.stat().st_mtime_ns)
                names[relative] = number
        disk.spaces[0] = names
        return disk

    def apply(self, call: Call) -> None:
        """Do what a call did; a call that failed did nothing."""
        if call.result < 0:
            return
        path = self._relative(call.path)
        match call.op:
            case Op.OPEN:
                self._open(call, path)
            case Op.WRITE:
                self._write(call, path)
            case Op.TRUNCATE:
                if (file := self._file(call.inode, path)) is not None:
                    file.now, file.clean = file.now[: call.size].ljust(call.size, b"\0"), False
            case Op.MAP:
                if (file := self._file(call.inode, path)) is not None:
                    file.clean = False
            case Op.SYNC:
                self._sync(call, path)
            case Op.RENAME:
                self._rename(path, self._relative(call.other), exchange=bool(call.flags & EXCHANGE))
            case Op.LINK:
                self._change({**self._names, self._relative(call.other): self._names[path]}, self._relative(call.other))
            case Op.UNLINK | Op.RMDIR:
                self._change({name: of for name, of in self._names.items() if name != path}, path)
            case Op.MKDIR:
                self._change({**self._names, path: FOLDER}, path)
            case _:
                pass

    def states(self, after: int, chance: random.Random) -> Iterator[CrashState]:
        """What may be on the disk if the power is lost now."""
        last = len(self.spaces) - 1
        chosen = {self.forced, last, chance.randint(self.forced, last)}
        for index in sorted(chosen):
            names = self.spaces[index]
            dirty = any(not self.files[n].clean for n in names.values() if n != FOLDER)
            for kind in ("kept", "lost", "zeros", "torn") if dirty else ("kept",):
                content = {path: None if n == FOLDER else _content(self.files[n], kind, chance) for path, n in names.items()}
                yield CrashState(content, after, f"names {last - index} back, bytes {kind}")

    # -- calls ---------------------------------------------------------------------------------------------------

    @property
    def _names(self) -> Names:
        return self.spaces[-1]

    def _relative(self, path: str) -> str:
        return os.path.relpath(path, self.root) if path else ""

    def _file(self, inode: int, path: str) -> Stored | None:
        if inode not in self._live and self._names.get(path, FOLDER) != FOLDER:
            self._live[inode] = self._names[path]
        return self.files.get(self._live.get(inode, FOLDER))

    def _change(self, names: Names, *paths: str) -> None:
        self.spaces.append(names)
        self._touched.append(frozenset(str(Path(path).parent) for path in paths))

    def _open(self, call: Call, path: str) -> None:
        if call.flags & getattr(os, "O_TMPFILE", 0) == getattr(os, "O_TMPFILE", -1):
            return  # a file without a name, which a loss of power removes
        if call.size != call.inode or path not in self._names:
            number = len(self.files)
            self.files[number] = Stored()
            self._live[call.inode] = number
            self._change({**self._names, path: number}, path)
        elif self._names[path] != FOLDER:
            self._live[call.inode] = self._names[path]
            if call.flags & os.O_TRUNC:
                file = self.files[self._names[path]]
                file.now, file.clean = b"", False

    def _write(self, call: Call, path: str) -> None:
        file = self._file(call.inode, path)
        if file is not None:
            end = call.offset + len(call.data)
            file.now = file.now[: call.offset].ljust(call.offset, b"\0") + call.data + file.now[end:]
            file.clean = False

    def _sync(self, call: Call, path: str) -> None:
        file = self._file(call.inode, path)
        if file is not None:
            file.now = file.durable = call.data
            file.clean = True
        elif path in self._names or path == ".":
            touching = [i for i, folders in enumerate(self._touched) if path in folders]
            self.forced = max(self.forced, *touching) if touching else self.forced

    def _rename(self, old: str, new: str, *, exchange: bool) -> None:
        back = {old + name[len(new) :]: of for name, of in self._names.items() if name == new or name.startswith(f"{new}/")}
        names = {name: of for name, of in self._names.items() if name != new and not name.startswith(f"{new}/")}
        moved = {name: of for name, of in self._names.items() if name == old or name.startswith(f"{old}/")}
        for name, of in moved.items():
            names.pop(name, None)
            names[new + name[len(old) :]] = of
        self._change({**names, **(back if exchange else {})}, old, new)


def _content(file: Stored, kind: str, chance: random.Random) -> tuple[bytes, int | None]:
    if file.clean or kind == "kept":
        return file.now, file.modified
    sized = file.durable[: len(file.now)].ljust(len(file.now), b"\0")
    if kind == "lost":
        return file.durable, file.modified
    if kind == "zeros":
        return sized, file.modified
    sectors = [(file.now if chance.random() < 0.5 else sized)[at : at + SECTOR] for at in range(0, len(file.now), SECTOR)]
    grown = max(len(file.now) - len(file.durable), 0)
    return b"".join(sectors)[: len(file.now) - chance.randint(0, grown)], file.modified


def crash_states(calls: Sequence[Call], folder: Path, before: Path, seed: int = 0) -> list[CrashState]:
    """The different states in which the disk may be when the power is lost after each of some calls.

    Args:
        calls: of a writer.
        folder: which it changed; as it left it.
        before: a copy of what the folder held before.
        seed: of what is drawn.
    """
    disk, chance, found = Disk.of(folder, before), random.Random(seed), dict[int, CrashState]()
    modified = _modified(calls, folder)
    for number, call in enumerate(calls, 1):
        disk.apply(call)
        for inode, time in modified.items():
            if (file := disk.files.get(disk._live.get(inode, FOLDER))) is not None:
                file.modified = time
        for state in disk.states(number, chance):
            found.setdefault(state.key(), state)
    return list(found.values())


def _modified(calls: Sequence[Call], folder: Path) -> dict[int, int]:
    """Times of the files that the writer made and left, by their number."""
    made = {call.inode for call in calls if call.op is Op.OPEN}
    about = (path.stat() for path in folder.rglob("*") if path.is_file())
    return {of.st_ino: of.st_mtime_ns for of in about if of.st_ino in made}
