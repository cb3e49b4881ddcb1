"""Damage as copies, disks, other programs and people with time do it: to several files, folders, and the checksums too."""

from __future__ import annotations

import bz2
import contextlib
import ctypes
import gzip
import hashlib
import json
import lzma
import os
import re
import shutil
import stat
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.content import Random, damaged


@dataclass
class Scene:
    """A case that is about to be damaged.

    Attributes:
        folder: of the case, a copy of ``sample``.
        sample: the sound sample.
        other: a sound sample of the same kind with other content; None where the kind has none.
        targets: files of the folder that are damaged.
        path: the one of them that is damaged first.
        rng: of the case.
        names: files whose content or place has changed, apart from ``path``.
        forged: whether the checksums were made to fit the damage, or removed, so that nobody can tell.
        as_user: whether the modes of files count, as they do for users who are not root.
    """

    folder: Path
    sample: Path
    other: Path | None
    targets: Sequence[Path]
    path: Path
    rng: Random
    names: list[Path] = field(default_factory=list)
    forged: bool = False
    as_user: bool = False


# --- the file as such -----------------------------------------------------------------------------------------------


def _sparse(scene: Scene) -> str:
    size = scene.path.stat().st_size
    to, text = scene.rng.choice(((1 << 40, "a hole of 1 TiB"), (size + (1 << 33), "followed by a hole"), (size, "zeros")))
    if to == size or to == 1 << 40:
        scene.path.write_bytes(b"")
    os.truncate(scene.path, to)
    return f"is {text}"


def _unreadable(scene: Scene) -> str:
    scene.as_user = True
    scene.path.chmod(scene.rng.choice((0, 0o200)))
    return "may not be read"


def _io_error(scene: Scene) -> str:
    scene.path.unlink()
    scene.path.symlink_to("/proc/self/mem")
    return "gives an input/output error"


def _circle(scene: Scene) -> str:
    aside = scene.path.with_name("aside")
    scene.path.unlink()
    scene.path.symlink_to(aside.name)
    aside.symlink_to(scene.path.name)
    return "is one of two links to each other"


def _link(scene: Scene) -> str:
    other = scene.rng.choice([path for path in scene.targets if path.is_file()])
    if other == scene.path:
        return "as it was"
    scene.path.unlink()
    if scene.rng.random() < 0.5:
        scene.path.symlink_to(os.path.relpath(other, scene.path.parent))
    else:
        os.link(other, scene.path)
    return f"is a link to {other.name}"


def _socket(scene: Scene) -> str:
    scene.path.unlink()
    os.mknod(scene.path, stat.S_IFSOCK | 0o666)
    return "is a socket"


def _touched(scene: Scene) -> str:
    when = scene.rng.choice((0, -1, 2**33, 2**40))
    for path in scene.rng.choice(([scene.path], scene.targets)):
        with contextlib.suppress(OSError):  # the file system knows no such time
            os.utime(path, (when, when))
    return f"was written at {when}"


def _renamed(scene: Scene) -> str:
    name = scene.path.name
    new = scene.rng.choice((name.upper(), f"{name}.txt", f"{name} ", f"{name} (1)", f"{scene.path.stem}.bak", f".{name}"))
    if new == name:
        return "as it was"
    scene.path.rename(scene.path.with_name(new))
    return f"is called {new!r}"


def _stray(scene: Scene) -> str:
    name = scene.path.name
    new = scene.rng.choice(
        (".DS_Store", f"._{name}", f"{name}~", f".{name}.swp", f"{name}.tmp", ".nfs0001", "Thumbs.db", "lost")
    )
    path = scene.path.with_name(new)
    how = scene.rng.randrange(4)
    if how == 0:
        path.mkdir()
    elif how == 1:
        path.symlink_to("nowhere")
    else:
        path.write_bytes(b"\0\5\x16\7" if how == 2 else scene.path.read_bytes()[:-3])
    scene.names.append(path)
    return f"has {new!r} beside it"


# --- its folder -----------------------------------------------------------------------------------------------------


def _folder(scene: Scene) -> str:
    folder = scene.path.parent
    if folder == scene.folder:
        return _stray(scene)
    how = scene.rng.choice(("gone", "empty", "a file", "a link to itself", "a link elsewhere", "read-only", "closed", "twice"))
    if how == "read-only" or how == "closed":
        scene.as_user = True
        folder.chmod(0o555 if how == "read-only" else 0)
        return f"is in a folder that is {how}"
    if how == "twice":  # as a copy into a folder that is there already makes it
        shutil.copytree(folder, scene.folder / "copy", symlinks=True)
        shutil.move(scene.folder / "copy", folder / folder.name)
        return "has its folder in its folder"
    aside = scene.folder / "moved-away"
    folder.rename(aside)
    if how == "empty":
        folder.mkdir()
    elif how == "a file":
        folder.write_bytes(b"text\n")
    elif how.startswith("a link"):
        folder.symlink_to(folder.name if how == "a link to itself" else os.path.relpath(aside, folder.parent))
    if how != "a link elsewhere":
        shutil.rmtree(aside)
    return f"is in a folder that is {how}"


# --- content of others ----------------------------------------------------------------------------------------------

_LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 1234\n" % (b"4d7a" * 16)
FORMATS: dict[str, bytes] = {
    "a pointer of Git LFS": _LFS,
    "a page of an error": b"<!DOCTYPE html>\n<html><head><title>404</title></head><body>Not Found</body></html>\n",
    "JSON of an error": b'{"error": "Repository not found", "status": 404}',
    "PNG": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\6\0\0\0",
    "a program": b"\x7fELF\2\1\1" + bytes(60),
    "a pickle": b"\x80\4\x95\x0c\0\0\0\0\0\0\0\x8c\2os\x94\x8c\4abcd\x94\x93\x94.",
    "an old pickle": b"cos\nsystem\n(S'true'\ntR.",
    "an empty zip": b"PK\5\6" + bytes(18),
    "SQLite": b"SQLite format 3\0" + bytes(100),
    "a PDF": b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n1 0 obj\n",
    "a byte-order mark": b"\xef\xbb\xbf",
    "a line end": b"\n",
    "a space": b" ",
    "null": b"null\n",
    "an empty object": b"{}",
    "an empty list": b"[]",
    "a text in JSON": b'"text"',
    "a comment": b"# nothing\n",
    "a merge conflict": b"<<<<<<< HEAD\n{}\n=======\n[]\n>>>>>>> theirs\n",
    "a BOM of UTF-32": b"\xff\xfe\0\0",
    "NUL": bytes(4096),
    "0xff": b"\xff" * 4096,
}
COMPRESS: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


def _other_format(scene: Scene) -> str:
    name = scene.rng.choice(list(FORMATS))
    scene.path.write_bytes(FORMATS[name])
    return f"is {name}"


def _compressed(scene: Scene) -> str:
    name, content = scene.rng.choice(list(COMPRESS)), scene.path.read_bytes()
    if name == scene.path.suffix[1:]:
        content = COMPRESS[name](content)  # twice
    elif scene.path.suffix[1:] in COMPRESS:
        content = {"gz": gzip.decompress, "bz2": bz2.decompress, "xz": lzma.decompress}[scene.path.suffix[1:]](content)
        scene.path.write_bytes(content)
        return "is not compressed"
    scene.path.write_bytes(COMPRESS[name](content))
    return f"is compressed by {name}"


def _bomb(scene: Scene) -> str:
    inner = scene.rng.choice((b"\0", b"x", b'{"title": ', b"[")) * (1 << 20)
    scene.path.write_bytes(COMPRESS.get(scene.path.suffix[1:], gzip.compress)(inner) * 600)
    return "holds hundreds of megabytes"


def _foreign(scene: Scene) -> str:
    """A sound file of another sample, perhaps with files that describe it."""
    if scene.other is None or not (scene.other / scene.path.relative_to(scene.folder)).is_file():
        return _other_format(scene)
    beside = [path for path in scene.targets if path != scene.path and path.parent == scene.path.parent]
    chosen = scene.rng.sample(beside, min(len(beside), scene.rng.choice((0, 0, 1, 2))))
    records = [path for path in beside if path.name in RECORDS]
    chosen = records if records and scene.rng.random() < 0.3 else chosen
    if scene.path.parent != scene.folder and len(chosen) == len(beside):
        chosen = chosen[1:]  # a whole folder of another is sound
    scene.forged = len(scene.targets) == 1  # a whole artefact of another is sound too
    for path in [scene.path, *chosen]:
        source = scene.other / path.relative_to(scene.folder)
        if source.is_file():
            shutil.copyfile(source, path)
            scene.names.append(path)
    return f"is that of another sample, with {', '.join(path.name for path in chosen) or 'nothing else'}"


# --- content --------------------------------------------------------------------------------------------------------


def _json_text(scene: Scene) -> str:
    """JSON that some programs write, and others do not read."""
    rng, text = scene.rng, scene.path.read_bytes().decode("utf-8", "replace")
    pairs = list(re.finditer(r'"[^"\\]*": ?("[^"\\]*"|-?[\d.]+|true|false|null|\[\]|\{\})', text))
    numbers = list(re.finditer(r"(?<=[ :,\[])-?\d[\d.]*(?=[,\s\]}])", text))
    if not pairs and not numbers:
        return _content(scene)
    how = rng.randrange(9)
    if how < 3 and pairs:  # a key twice, with the same value, another, or one of another type
        key, value = (match := rng.choice(pairs)).group().split(":", 1)
        again = rng.choice((value, "null", "[]", '"other"', "7", "{}"))
        text = text[: match.end()] + f", {key}: {again}" + text[match.end() :]
    elif how < 6 and numbers:
        match = rng.choice(numbers)
        new = rng.choice(("NaN", "-Infinity", "1e400", "01", "+1", "1.", "0x10", "1" + "0" * 18, "9" * 400, "1e-400", "-0.0",
                          "18446744073709551616", "4294967296", "1E5", "true", '"1"', "1_000"))  # fmt: skip
        text = text[: match.start()] + new + text[match.end() :]
    elif how == 6:
        text = rng.choice(
            (text + text, text.replace('"', "'"), text.replace("}", ",}"), "// comment\n" + text, "\ufeff" + text)
        )
    elif how == 7 and pairs:
        match = rng.choice(pairs)
        text = (
            text[: match.start()] + '"' + rng.choice(("\\ud800", "\\u0000", "\\x41", "a\nb", "\\")) + text[match.start() + 1 :]
        )
    else:
        text = text.replace(": ", rng.choice((":\u00a0", " = ", ":\t\n")), rng.choice((1, 10**6)))
    scene.path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return "is JSON of another dialect"


def _encoding(scene: Scene) -> str:
    name = scene.rng.choice(("utf-8-sig", "utf-16-le", "utf-32", "shift_jis", "gb18030", "cp037", "koi8-r", "twice"))
    content = scene.path.read_bytes()
    if name == "twice":
        content = content.decode("latin-1").encode()
    else:
        content = content.decode("utf-8", "replace").encode(name, "replace")
    scene.path.write_bytes(content)
    return f"is encoded by {name}"


def _content(scene: Scene) -> str:
    scene.path.write_bytes(damaged(scene.path.name, scene.path.read_bytes(), scene.rng))
    return "changed"


def _several(scene: Scene) -> str:
    """All files, or several, in the same way: a disk that was full, a copy that broke off."""
    paths = scene.rng.choice((scene.targets, scene.rng.sample(list(scene.targets), min(3, len(scene.targets)))))
    how = scene.rng.choice(("empty", "zeros", "cut", "gone", "changed"))
    for path in paths:
        content = path.read_bytes()
        if how == "gone":
            path.unlink()
        elif how == "changed":
            path.write_bytes(damaged(path.name, content, scene.rng))
        else:
            path.write_bytes({"empty": b"", "zeros": bytes(len(content)), "cut": content[: len(content) // 2]}[how])
        scene.names.append(path)
    return f"and {len(paths)} files: {how}"


# --- checksums ------------------------------------------------------------------------------------------------------

RECORDS = ("checksums.json", "manifest.json", "meta.json")
"""Files that hold checksums of others."""


def _unrecorded(scene: Scene) -> str:
    """The checksums are gone, and another file is damaged."""
    records = [path for name in RECORDS for path in scene.folder.rglob(name) if path != scene.path]
    for path in records:
        path.unlink()
        scene.names.append(path)
    scene.forged = bool(records)
    return f"{_content(scene)}; without {', '.join(path.name for path in records) or 'nothing'}"


def _forged(scene: Scene) -> str:
    """A file is damaged, and all that is said of it elsewhere made to fit."""
    before = scene.sample / scene.path.relative_to(scene.folder)
    how = scene.rng.choice((_content, _content, _content, _json_text, _foreign))(scene)
    if scene.path.is_file():
        rerecord(scene.folder, before, scene.path)
        scene.forged = True
    return f"{how}; its checksums too"


def rerecord(folder: Path, before: Path, after: Path) -> None:
    """Make the checksums of a file in a folder fit: in other files, in names, and those that files hold of themselves.

    Args:
        folder: of the case.
        before: the sound file.
        after: the damaged one.
    """
    from blink.checksums import sampled_hash
    from blink.errors import BlinkError
    from blink.files import sample_hash, sha256

    changes = {str(before.stat().st_size): str(after.stat().st_size)}
    for of in (sha256, sample_hash, sampled_hash):
        with contextlib.suppress(BlinkError, KeyError, TypeError, ValueError, OSError):
            changes[of(before)] = of(after)
    sizes = [(f'"{key}": {old}', f'"{key}": {new}') for key in ("size", "bytes") for old, new in [next(iter(changes.items()))]]
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and path.stat().st_size < 1 << 20:
            content = old = path.read_bytes()
            for a, b in [*list(changes.items())[1:], *(sizes if path.name in RECORDS else ())]:
                content = content.replace(a.encode(), b.encode())
            if path.name in RECORDS:
                content = _with_own_hash(path.name, content)
            if content != old:
                path.write_bytes(content)
    for a, b in list(changes.items())[1:]:
        if a[:16] in after.name:
            after.rename(after.with_name(after.name.replace(a[:16], b[:16])))
            return


def _with_own_hash(name: str, content: bytes) -> bytes:
    with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
        values = json.loads(content)
        if name == "checksums.json":
            of = {key: values[key] for key in ("files", "base", "pending")}
            values["sha256"] = hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()
        elif name == "manifest.json":
            from blink.kb.manifest import Manifest

            values["sha256"][name] = Manifest(**values).content_hash()
        return json.dumps(values, indent=2).encode()
    return content


# --- all ------------------------------------------------------------------------------------------------------------

DAMAGES: dict[Callable[[Scene], str], float] = {
    _sparse: 1, _unreadable: 1, _io_error: 0.7, _circle: 0.5, _link: 1, _socket: 0.5, _touched: 0.5, _renamed: 1, _stray: 1,
    _folder: 2, _other_format: 2, _compressed: 1, _bomb: 0.3, _foreign: 2.5, _json_text: 3, _encoding: 1, _several: 1.5,
    _unrecorded: 1.5, _forged: 4,
}  # fmt: skip
"""A damage -> how many of a number of cases it gets. Each is given the scene, and says what it did to ``path``."""


def damage(scene: Scene) -> list[tuple[Path, str]]:
    """Damage the files of a scene; the damaged files, ``path`` first, and how."""
    how = scene.rng.choices(list(DAMAGES), list(DAMAGES.values()))[0]
    try:
        text = how(scene)
    except OSError as error:  # a file system, or a user, that cannot do this
        text = f"as it is: {error}"
    return [(scene.path, text), *((path, "too") for path in scene.names if path != scene.path)]


def heed_modes() -> None:
    """Let the modes of files count for this process, as they do for users who are not root."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, data = struct.pack("Ii", 0x20080522, 0), (ctypes.c_uint32 * 6)()
    if libc.capget(header, data) == 0:
        for i in range(3):  # effective, permitted, inheritable
            data[i] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        libc.capset(header, data)


def make_removable(folder: Path) -> None:
    """Give folders back the modes with which they can be removed."""
    for root, names, _ in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                (Path(root) / name).chmod(0o755)
