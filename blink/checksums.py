"""Checksums of a folder's files: stored when they are written, compared when they are read.

Of a file they hold its size, a hash of all its bytes, a hash of samples of them, and the names, shapes and types of its
tensors.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tokenize import TokenError
from typing import Any

from blink.errors import BlinkError, DataError, MissingFileError, first_line
from blink.files import read_json, sample_hash, sha256, write_json

CHECKSUMS_FILE = "checksums.json"
FORMAT = 1
WHOLE_BYTES = 8 << 20
"""Bytes of a folder that a quick comparison reads whole, of its smallest files: they take milliseconds."""
_TENSOR_SAMPLE = 1024
"""Bytes that are sampled of each tensor."""
_CHANGED = "is damaged, or was changed"
_END = 1 << 18
"""Bytes sampled at the end of a file, where archives of torch keep a checksum of each tensor."""


def _nothing(size: int) -> None:
    pass


@dataclass(frozen=True)
class FileChecksum:
    """What is known of a file's content.

    Attributes:
        size: in bytes.
        sha256: hash of all of them.
        sample: `sampled_hash` of them.
        tensors: type and shape of each tensor of a ``.safetensors`` or ``.npy`` file by name, such as ``F32[64, 384]``.
    """

    size: int
    sha256: str
    sample: str
    tensors: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, path: Path, advance: Callable[[int], None] = _nothing) -> FileChecksum:
        """Those of a file as it is; ``advance`` is called with the size of each block that is hashed.

        Raises:
            OSError: it cannot be read.
            DataError: it holds no tensors, as its name says.
        """
        return cls(path.stat().st_size, sha256(path, advance), sampled_hash(path), tensors_of(path))

    def fault(self, path: Path, *, whole: bool, advance: Callable[[int], None] = _nothing) -> str | None:
        """What is wrong with a file that should have this content; None if nothing is.

        Args:
            path: of the file.
            whole: compare all its bytes, not samples of them.
            advance: see `of`.
        """
        if not path.is_file():
            return missing(path)
        try:
            if (size := path.stat().st_size) != self.size:
                return f"{path} {_CHANGED}: it has {size:,} bytes, and was stored with {self.size:,}"
            if (different := _different(tensors_of(path), self.tensors)) is not None:
                return f"{path} {_CHANGED}: {different}"
            same = sha256(path, advance) == self.sha256 if whole else sampled_hash(path) == self.sample
        except (OSError, DataError) as error:
            return first_line(error)
        return None if same else f"{path} {_CHANGED} after it was stored"


@dataclass(frozen=True)
class Checksums:
    """The files of a folder that belong together.

    Attributes:
        files: by path relative to the folder.
        base: files of another folder that these need, by path relative to that one.
    """

    files: Mapping[str, FileChecksum]
    base: Mapping[str, FileChecksum] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path, names: Iterable[str], base: Mapping[str, FileChecksum] | None = None) -> Checksums:
        """Those of files of a folder as they are, with those of their base.

        Raises:
            OSError: one cannot be read.
            DataError: one holds no tensors, as its name says.
        """
        return cls(checksums_of(folder, names), base or {})

    def write(self, folder: Path, pending: Pending | None = None) -> None:
        """Store them in their folder, atomically: after its files, or with what is to replace them.

        The file holds a hash of itself.
        """
        content = asdict(self) | {"pending": None if pending is None else asdict(pending)}
        write_json(folder / CHECKSUMS_FILE, {"format": FORMAT, **content, "sha256": _digest(content)})


@dataclass(frozen=True)
class Pending:
    """Files that are complete, and about to replace those of a folder.

    Attributes:
        folder: name of the subfolder that they are moved from.
        checksums: those of the folder when all are moved.
        removed: files of the folder that go then.
    """

    folder: str
    checksums: Checksums
    removed: Sequence[str] = ()


def checksums_of(folder: Path, names: Iterable[str]) -> dict[str, FileChecksum]:
    """Those of files of a folder as they are; errors as of `FileChecksum.of`."""
    return {name: FileChecksum.of(folder / name) for name in sorted(names)}


def read_checksums(folder: Path, remedy: str) -> Checksums | None:
    """Those that are stored in a folder; None where there are none.

    Raises:
        DataError: they are damaged.
        MissingFileError: they are a link to a file that does not exist.
    """
    return read_with_pending(folder, remedy)[0]


def read_with_pending(folder: Path, remedy: str) -> tuple[Checksums | None, Pending | None]:
    """The same, with the files that are about to replace those of the folder, if there are any; see `blink.replacing`."""
    path = folder / CHECKSUMS_FILE
    if not path.is_file():
        if path.is_symlink():
            raise MissingFileError(f"{missing(path)}; {remedy}")
        return None, None
    try:
        values = read_json(path, remedy)
        content = {key: values[key] for key in ("files", "base", "pending")}
        if values["format"] != FORMAT or values["sha256"] != _digest(content):
            raise ValueError("it is of another version, or was changed")
        of = content["pending"]
        stored = _parsed(content)
        if of is None:
            return stored, None
        return stored, Pending(_plain(of["folder"]), _parsed(of["checksums"]), [_plain(name) for name in of["removed"]])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path} holds no checksums ({first_line(error)}); {remedy}") from error


def _parsed(content: Mapping[str, Any]) -> Checksums:
    return Checksums(*({_plain(name): FileChecksum(**of) for name, of in content[key].items()} for key in ("files", "base")))


def _plain(name: str) -> str:
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ValueError(f"{name!r} is no name in a folder")
    return name


def faults(
    folder: Path, files: Mapping[str, FileChecksum], *, whole: bool = False, advance: Callable[[int], None] = _nothing
) -> Iterator[str]:
    """The files of a folder that are missing, damaged or changed, one sentence each.

    Args:
        folder: of the files.
        files: what they should be, by path relative to the folder.
        whole: compare all bytes; otherwise those of the smallest files, `WHOLE_BYTES` together, and samples of the others.
        advance: called with the size of each block that is hashed.
    """
    return (fault for _, fault in _faults(folder, files, whole, advance))


def _faults(
    folder: Path, files: Mapping[str, FileChecksum], whole: bool, advance: Callable[[int], None] = _nothing
) -> Iterator[tuple[Path, str]]:
    read = 0
    for name, stored in sorted(files.items(), key=lambda item: (item[1].size, item[0])):
        read += stored.size
        fault = stored.fault(folder / name, whole=whole or read <= WHOLE_BYTES, advance=advance)
        if fault is not None:
            yield folder / name, fault


def require_whole(
    folder: Path,
    files: Mapping[str, FileChecksum],
    *,
    remedy: str,
    kind: type[BlinkError] = DataError,
    whole: bool = False,
) -> None:
    """Check that the files of a folder are those that were stored; arguments as of `faults`.

    Args:
        folder: of the files.
        files: what they should be.
        remedy: the next step, for the error.
        kind: of the error for a file that is another.
        whole: compare all bytes.

    Raises:
        MissingFileError: a file is missing.
        BlinkError: of ``kind``, a file is another.
    """
    for path, fault in _faults(folder, files, whole):
        raise (kind if path.is_file() else MissingFileError)(f"{fault}; {remedy}")


def missing(path: Path) -> str:
    """Why a path is no file, in a sentence."""
    if path.is_symlink() and not path.exists():
        return f"{path} is a link to {path.readlink()}, which does not exist"
    return f"{path} is no file" if path.exists() else f"{path} is missing"


def sampled_hash(path: Path) -> str:
    """Hash of samples of a file: evenly spread blocks, its end, and of a file of tensors the header and a block of each.

    Raises:
        OSError: it cannot be read.
        DataError: it is no file of tensors, though its name says so.
    """
    digest = hashlib.sha256(sample_hash(path).encode())
    with path.open("rb") as f:
        for start, size in _sampled_blocks(path):
            f.seek(start)
            digest.update(f.read(size))
    return digest.hexdigest()


def _sampled_blocks(path: Path) -> Iterator[tuple[int, int]]:
    yield max(0, path.stat().st_size - _END), _END
    if path.suffix != ".safetensors":
        return
    begin, header = _safetensors_header(path)
    yield 8, begin - 8
    for _name, tensor in sorted(header.items()):
        start, end = tensor["data_offsets"]
        yield begin + (start + end) // 2, min(_TENSOR_SAMPLE, end - (start + end) // 2)


def tensors_of(path: Path) -> dict[str, str]:
    """Type and shape of each tensor of a ``.safetensors`` or ``.npy`` file, by name; none of other files.

    Raises:
        DataError: it is no such file.
    """
    if path.suffix == ".safetensors":
        return {name: f"{of['dtype']}{of['shape']}" for name, of in sorted(_safetensors_header(path)[1].items())}
    return {"": _npy_header(path)} if path.suffix == ".npy" else {}


def _safetensors_header(path: Path) -> tuple[int, dict[str, Any]]:
    """Where the bytes of the tensors begin, and type, shape and bounds of each by name."""
    try:
        with path.open("rb") as f:
            length = int.from_bytes(f.read(8), "little")
            if not 2 <= length <= path.stat().st_size - 8:
                raise ValueError("its header does not fit into it")
            header = json.loads(f.read(length))
        tensors = {name: of for name, of in header.items() if name != "__metadata__"}
        for of in tensors.values():
            start, end = of["data_offsets"]
            if not isinstance(of["dtype"], str) or not isinstance(of["shape"], list) or not 0 <= int(start) <= int(end):
                raise ValueError("its header describes no tensors")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DataError(f"{path} is damaged ({first_line(error)})") from error
    return 8 + length, tensors


def _npy_header(path: Path) -> str:
    import numpy as np

    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except (ValueError, OSError, SyntaxError, TokenError) as error:  # the last two of a header that is no Python literal
        raise DataError(f"{path} is damaged ({first_line(error)})") from error
    return f"{array.dtype.str}{list(array.shape)}"


def _different(actual: Mapping[str, str], stored: Mapping[str, str]) -> str | None:
    """The first tensor that is not what it was, in words."""
    for name in sorted(actual.keys() | stored.keys()):
        if (now := actual.get(name, "missing")) != (before := stored.get(name, "missing")):
            return f"its tensor {name!r} is {now}, and was stored as {before}"
    return None


def write_hashed_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON object with a hash of itself, atomically."""
    write_json(path, {**values, "sha256": _digest(values)})


def read_hashed_json(path: Path, remedy: str = "check the path") -> dict[str, Any]:
    """Read what `write_hashed_json` wrote, without the hash; that of an earlier version has none.

    Raises:
        MissingFileError: there is no such file.
        DataError: it is no JSON object, or was changed.
    """
    values = read_json(path, remedy)
    if not isinstance(values, dict):
        raise DataError(f"{path} is damaged (it holds no JSON object); {remedy}")
    stored = values.pop("sha256", None)
    if stored not in (None, _digest(values)):
        raise DataError(f"{path} is damaged, or was changed after it was written; {remedy}")
    return values


def hash_of_beginning(path: Path, size: int) -> Any:
    """SHA-256 object of the first ``size`` bytes of a file that grows, to be continued with what is appended."""
    digest = hashlib.sha256()
    with path.open("rb") as f:
        while size > 0 and (block := f.read(min(size, 1 << 20))):
            digest.update(block)
            size -= len(block)
    return digest


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
