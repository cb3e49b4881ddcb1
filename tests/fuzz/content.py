"""Damage to the content of files, by seed: to bytes, and to the structure of what they hold."""

from __future__ import annotations

import bz2
import contextlib
import csv
import gzip
import io
import json
import lzma
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

Random = random.Random
INSERTED = (
    b"\0",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\x80",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\x1b[31m",
    b"\x07",
    b"\xc2\x9b",
    "\u202e".encode(),
    "\u2028".encode(),
    "\u00a0".encode(),
    b"\r",
    b"\n",
    b"\r\n",
    b"\t",
    b'"',
    b"'",
    b"{",
    b"]",
    b",",
    b"\\",
    b"%",
    b"=cmd()",
    b"-",
    b"<",
    b"&#0;",
    b"\x1a",
    "\U0001f600".encode(),
    "e\u0301".encode(),
    b"\x1f\x8b\x08",
    b"BZh9",
    b"#",
    b": ",
    b"- ",
)
TEXTS = (
    "",
    " ",
    "\0",
    "\ud800",
    "\x1b[2J",
    "\u202edlrow",
    "\u2028",
    "=1+1",
    "../../etc/passwd",
    "nan",
    "-1",
    "1e999",
    "a" * 3000,
    "%s{}",
    "\ufeff",
    "Q1|Q2",
    "\n",
    "\t",
    "\x9b31m",
    "<script>",
    "/",
    ".",
    "null",
    "𝒳" * 50,
    "http://[",
    "\r",
)
NUMBERS = (0, -1, 1, 2, 1e308, -1e308, float("nan"), float("inf"), 10**30, 2**31, 2**63, -(2**63), 0.5, 10**400, 1e-320)
VALUES = (None, True, False, [], {}, [None], [[]], {"": None}, "")
DTYPES = ("<f4", "<f8", "<f2", ">f4", "<i8", "<i4", "|b1", "|u1", "<U4", "|S3", "<c8", "|O", "<M8[s]", "<u8", "nonsense")
TENSOR_TYPES = ("F32", "F64", "F16", "BF16", "I64", "I8", "U8", "BOOL", "I32", "F8_E4M3", "X1", "")
OPENERS = {
    ".gz": (gzip.compress, gzip.decompress),
    ".bz2": (bz2.compress, bz2.decompress),
    ".xz": (lzma.compress, lzma.decompress),
}


# --- bytes ----------------------------------------------------------------------------------------------------------


def _range(content: bytes, rng: Random, most: int = 4096) -> tuple[int, int]:
    start = rng.randrange(len(content) + 1)
    return start, min(len(content), start + rng.randrange(1, rng.choice((3, 17, 300, most))))


def flip_bit(content: bytes, rng: Random) -> bytes:
    """Flip one to three bits."""
    damaged = bytearray(content)
    for _ in range(rng.choice((1, 1, 3)) if content else 0):
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def set_byte(content: bytes, rng: Random) -> bytes:
    """Give one byte another value."""
    i = rng.randrange(max(len(content), 1))
    return content[:i] + bytes([rng.choice((0, 255, 10, 34, 127, 128, rng.randrange(256)))]) + content[i + 1 :]


def zero_block(content: bytes, rng: Random) -> bytes:
    """Zeros instead of a block."""
    a, b = _range(content, rng)
    return content[:a] + bytes(b - a) + content[b:]


def random_block(content: bytes, rng: Random) -> bytes:
    """Noise instead of a block."""
    a, b = _range(content, rng, 64)
    return content[:a] + rng.randbytes(b - a) + content[b:]


def truncate(content: bytes, rng: Random) -> bytes:
    """Cut the end off."""
    return content[: rng.choice((0, 1, len(content) // 2, max(len(content) - 1, 0), rng.randrange(len(content) + 1)))]


def remove_block(content: bytes, rng: Random) -> bytes:
    """Leave a block out."""
    a, b = _range(content, rng)
    return content[:a] + content[b:]


def duplicate_block(content: bytes, rng: Random) -> bytes:
    """A block twice."""
    a, b = _range(content, rng)
    return content[:b] + content[a:b] * rng.choice((1, 1, 5)) + content[b:]


def swap_blocks(content: bytes, rng: Random) -> bytes:
    """Two blocks exchanged."""
    (a, b), (c, d) = sorted((_range(content, rng, 64), _range(content, rng, 64)))
    return content if b > c else content[:a] + content[c:d] + content[b:c] + content[a:b] + content[d:]


def insert(content: bytes, rng: Random) -> bytes:
    """Bytes that mean something somewhere."""
    i = rng.choice((0, len(content), rng.randrange(len(content) + 1)))
    return content[:i] + rng.choice(INSERTED) * rng.choice((1, 1, 1, 40)) + content[i:]


def append(content: bytes, rng: Random) -> bytes:
    """More than there should be."""
    return content + rng.choice((b"\0" * 7, b"\n\n", b"{}\n", content[:50], content, rng.randbytes(30)))


def change_number(content: bytes, rng: Random) -> bytes:
    """Another number where digits are."""
    matches = list(re.finditer(rb"-?\d+(\.\d+)?", content))
    if not matches:
        return flip_bit(content, rng)
    match = rng.choice(matches)
    text = rng.choice(
        (b"-1", b"0", b"1e999", b"NaN", b"9" * 25, b"9" * 5000, b"0.5", b"-0", b"1_000", "\u0663".encode(), b"2147483648")
    )
    return content[: match.start()] + text + content[match.end() :]


def wrong_encoding(content: bytes, rng: Random) -> bytes:
    """The same text in another encoding."""
    text = content.decode("utf-8", "replace")
    return text.encode(rng.choice(("utf-16", "utf-16-be", "utf-32", "latin-1", "cp1252", "utf-7")), "replace")


BYTES: tuple[Callable[[bytes, Random], bytes], ...] = (
    flip_bit,
    flip_bit,
    set_byte,
    zero_block,
    random_block,
    truncate,
    truncate,
    remove_block,
    duplicate_block,
    swap_blocks,
    insert,
    insert,
    append,
    change_number,
    wrong_encoding,
)


# --- structure ------------------------------------------------------------------------------------------------------


def _nodes(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all values in a JSON value."""
    paths = [path]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        paths += _nodes(inner, (*path, key))
    return paths


def _replaced(value: Any, rng: Random) -> Any:
    if isinstance(value, str) and rng.random() < 0.5:
        return rng.choice((*TEXTS, value + rng.choice(TEXTS), value.upper(), value[::-1], value * 2000))
    if isinstance(value, int | float) and not isinstance(value, bool) and rng.random() < 0.6:
        return rng.choice((*NUMBERS, value + 1, -value, value * 1000, str(value), float(value)))
    if isinstance(value, list) and value and rng.random() < 0.6:
        return rng.choice((value * 2, value[:-1], value[::-1], [value], value[0], [*value, None], value * 300))
    if isinstance(value, dict) and rng.random() < 0.3:
        return rng.choice(([value], list(value), {**value, "": 1}, str(value)))
    return rng.choice((*VALUES, *NUMBERS, *TEXTS))


def changed_value(value: Any, rng: Random) -> Any:
    """A JSON value in which one value or key is another."""
    value = json.loads(json.dumps(value))
    path = rng.choice(_nodes(value))
    if not path:
        return _replaced(value, rng)
    holder = value
    for key in path[:-1]:
        holder = holder[key]
    key, how = path[-1], rng.random()
    if how < 0.15:
        del holder[key]
    elif how < 0.25 and isinstance(holder, dict):
        holder[rng.choice((*TEXTS, key.upper(), f"{key} "))] = holder.pop(key)
    elif how < 0.3 and isinstance(holder, dict):
        holder[rng.choice(list(holder))], holder[key] = holder[key], holder[rng.choice(list(holder))]
    else:
        holder[key] = _replaced(holder[key], rng)
    return value


def _dumped(value: Any, rng: Random, **style: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=rng.random() < 0.5, **style)
    if rng.random() < 0.06:  # as deep as no parser likes
        depth = rng.choice((200, 5000, 200_000))
        text = re.sub(r"null|\"[^\"]*\"(?!:)|\d+", lambda m: "[" * depth + m.group() + "]" * depth, text, count=1)
    if rng.random() < 0.06 and text.startswith("{") and len(text) > 2:  # a key twice
        text = "{" + text[1:-1] + "," + rng.choice([json.dumps({k: None})[1:-1] for k in value]) + "}"
    return text.encode("utf-8", "surrogatepass")


def json_value(content: bytes, rng: Random) -> bytes:
    """A JSON file with another value somewhere."""
    value = json.loads(content)
    for _ in range(rng.choice((1, 1, 2))):
        value = changed_value(value, rng)
    return _dumped(value, rng, indent=rng.choice((None, 2)))


def json_lines(content: bytes, rng: Random) -> bytes:
    """JSON lines with another value somewhere, or lines that are none."""
    lines = content.split(b"\n")
    i = rng.randrange(len(lines))
    if rng.random() < 0.25:
        return text_lines(content, rng)
    with contextlib.suppress(ValueError):
        lines[i] = _dumped(changed_value(json.loads(lines[i]), rng), rng)
    return b"\n".join(lines)


def text_lines(content: bytes, rng: Random) -> bytes:
    """Lines lost, twice, in another order, blank, joined, or long."""
    lines = content.split(b"\n")
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    how = rng.randrange(8)
    if how == 0:
        del lines[i]
    elif how == 1:
        lines.insert(j, lines[i])
    elif how == 2:
        lines[i], lines[j] = lines[j], lines[i]
    elif how == 3:
        lines[i] = rng.choice((b"", b" ", b"\t", b"null", b"[]", b"7", b'""', b"{}", b"#", b"\0", b"\xff"))
    elif how == 4:
        lines[i : i + 2] = [b"".join(lines[i : i + 2])]
    elif how == 5:
        lines[i] = lines[i] * rng.choice((2, 50, 3000))
    elif how == 6:
        lines = lines[:1]
    else:
        return content.replace(b"\n", rng.choice((b"\r\n", b"\r", b"\n\n", b"", b"\x0b", "\u2028".encode())))
    return b"\n".join(lines)


def table_cells(content: bytes, rng: Random) -> bytes:
    """Cells, columns and the header of a table."""
    text = content.decode("utf-8", "replace")
    separator = "\t" if text.count("\t") > text.count(",") else ","
    table = list(csv.reader(io.StringIO(text), delimiter=separator)) or [[""]]
    row, how = rng.choice(table), rng.randrange(6)
    if how == 0:
        row.append(rng.choice(TEXTS))
    elif how == 1 and row:
        row.pop(rng.randrange(len(row)))
    elif how == 2:
        table[0] = rng.choice((table[0][::-1], [table[0][0]] * len(table[0]), [""] * len(table[0]), table[0][:1]))
    elif row:
        row[rng.randrange(len(row))] = str(_replaced(rng.choice(row), rng))[:5000]
    out = io.StringIO()
    csv.writer(out, delimiter=separator, quoting=rng.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL)), escapechar="\\").writerows(
        table
    )
    return out.getvalue().encode("utf-8", "surrogatepass")


def settings_text(content: bytes, rng: Random) -> bytes:
    """A value or key of YAML, INI or ``key=value`` text."""
    matches = list(re.finditer(rb"[^\s:=,{}\[\]#]+", content))
    if not matches:
        return insert(content, rng)
    match = rng.choice(matches)
    values = (
        b"null",
        b"true",
        b"-1",
        b"0",
        b".nan",
        b".inf",
        b"1e400",
        b"[]",
        b"{}",
        b"[" * 3000,
        b"{a: " * 400,
        b"!!python/object:os.system x",
        b"&a [*a, *a]",
        b"*unknown",
        b"!!binary aGk=",
        b"2001-01-01",
        b"'",
        b'"',
        b"\t",
        b"|",
        b">",
        b"? ",
        b"---\n",
        b"%",
        b"@",
        b"`",
        b"9" * 500,
        b"0x7f",
        b"1:30",
        b"${HOME}",
        b"/nonexistent/x",
        b"..",
        b"\x1b[31m",
        b"<<: *a",
        b"a: b: c",
        b"%(x)s",
        b"\0",
    )
    return content[: match.start()] + rng.choice(values) + content[match.end() :]


def markup(content: bytes, rng: Random) -> bytes:
    """A tag, an entity or a bracket of XML, HTML or wikitext."""
    matches = list(re.finditer(rb"<[^>]*>|\[\[[^\]]*\]\]|\{\{[^}]*\}\}|&\w+;", content))
    if not matches:
        return insert(content, rng)
    match = rng.choice(matches)
    pieces = (
        b"",
        match.group() * 2,
        match.group() * 300,
        b"<a>",
        b"</page>",
        b"<page>",
        b"&#xD800;",
        b"&lol;",
        b"<!-- ",
        b"<![CDATA[",
        b"[[" * 200,
        b"{{" * 2000,
        b"<ref>",
        b"<nowiki>",
        b"{|",
        b"|}",
        b"<!DOCTYPE x [<!ENTITY a 'b'>]>",
        b"<text bytes='-1'>",
    )
    return content[: match.start()] + rng.choice(pieces) + content[match.end() :]


def npy_header(content: bytes, rng: Random) -> bytes:
    """Shape, dtype, order or version of a ``.npy`` file, or some of its numbers."""
    if content[:6] != b"\x93NUMPY":
        return flip_bit(content, rng)
    size = struct.unpack("<H", content[8:10])[0]
    head, body = content[10 : 10 + size].decode("latin-1"), content[10 + size :]
    how = rng.randrange(6)
    if how == 0:
        shapes = ("()", "(0,)", "(-1,)", "(3, 0)", "(1, 2, 3)", "(99999999999999,)", "(2,)", "(7, 7)", "(True,)", "'x'")
        head = re.sub(r"\(.*?\)", rng.choice(shapes), head)
    elif how == 1:
        head = re.sub(r"'descr': '.*?'", f"'descr': '{rng.choice(DTYPES)}'", head)
    elif how == 2:
        head = head.replace("False", rng.choice(("True", "None", "0", "'")))
    elif how == 3:
        head = rng.choice(("", "{}", "{'descr': '<f4'}", "[" * 100, "__import__('os')", head[: len(head) // 2]))
    elif how == 4:
        array = np.frombuffer(body[: len(body) // 4 * 4], np.float32).copy()
        if array.size:
            array[rng.randrange(array.size)] = rng.choice((np.nan, np.inf, -np.inf, 1e38, 0))
        body = array.tobytes() + body[len(body) // 4 * 4 :]
    else:
        return content[:6] + bytes([rng.choice((0, 2, 3, 9)), 0]) + content[8:]
    head = head.rstrip() + " " * (-(len(head.rstrip()) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode("latin-1") + body


def tensor_header(content: bytes, rng: Random) -> bytes:
    """Shape, dtype, offsets or names of a safetensors file, or numbers and whole tensors of it."""
    size = struct.unpack("<Q", content[:8])[0]
    head, body = json.loads(content[8 : 8 + size]), bytearray(content[8 + size :])
    names = [name for name in head if name != "__metadata__"]
    name, other, how = rng.choice(names), rng.choice(names), rng.randrange(9)
    start, end = head[name]["data_offsets"]
    if how == 0:
        shape = head[name]["shape"]
        head[name]["shape"] = rng.choice(([], [0], [-1], shape[::-1], [*shape, 1], [2**62, 4], [10**30], shape[:-1], ["a"]))
    elif how == 1:
        head[name]["dtype"] = rng.choice(TENSOR_TYPES)
    elif how == 2:
        head[name]["data_offsets"] = rng.choice(
            ([0, 0], [start, end - 4], [end, start], [-1, end], [start, end + 10**9], [start])
        )
    elif how == 3:
        head[name], head[other] = head[other], head[name]
    elif how == 4:
        head[name + "x"] = head.pop(name)
    elif how == 5:
        del head[name]
    elif how == 6:
        head = changed_value(head, rng)
    elif how == 7 and head[name]["dtype"] == "F32" and end > start:
        i = start + 4 * rng.randrange((end - start) // 4)
        body[i : i + 4] = struct.pack("<f", rng.choice((float("nan"), float("inf"), 3e38, 0.0, -1.0)))
    else:
        body[start:end] = bytes(end - start)
    text = json.dumps(head).encode()
    size = len(text) if rng.random() < 0.9 else rng.choice((0, 2**63, 2**64 - 1, len(text) - 1, len(text) + 9))
    return struct.pack("<Q", size) + text + bytes(body)


def zip_member(content: bytes, rng: Random) -> bytes:
    """A member of a zip file (npz, xlsx): damaged, lost, twice, or under a bad name."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as changed:
        names = archive.namelist()
        target, how = rng.choice(names), rng.randrange(6)
        for name in names:
            member = archive.read(name)
            if name == target:
                if how == 0:
                    continue
                member = damaged(name, member, rng) if how > 1 else b""
                name = rng.choice(("../x.npy", "/x", "x.npy", "\x1b.npy")) if how == 5 and rng.random() < 0.3 else name
            changed.writestr(name, member)
    return out.getvalue()


def parquet_column(content: bytes, rng: Random) -> bytes:
    """A column of a Parquet file: of another type, name, or order."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(content))
    i = rng.randrange(table.num_columns)
    n = table.num_rows
    columns = (
        pa.array([b"\xff\x00"] * n),
        pa.array([rng.choice((-1, 2**60))] * n),
        pa.array([float("nan")] * n),
        pa.array([None] * n),
        pa.array([[1, None]] * n),
        pa.array([{"a": "b"}] * n),
        pa.array([True] * n),
        pa.array([rng.choice(TEXTS[4:]).replace("\ud800", "")] * n),
        pa.array([0] * n, pa.timestamp("ns")),
        pa.array(["x"] * n).dictionary_encode(),
        pa.array([["\x1b[0m", "b"]] * n),
    )
    table = table.set_column(i, rng.choice((table.column_names[i], table.column_names[0], "", "x\0")), rng.choice(columns))
    out = io.BytesIO()
    pq.write_table(table.slice(0, rng.choice((n, 0, 1))), out)
    return out.getvalue()


def _starts(*beginnings: bytes) -> Callable[[str, bytes], bool]:
    return lambda name, content: content.startswith(beginnings)


def _ends(*ends: str) -> Callable[[str, bytes], bool]:
    return lambda name, content: name.endswith(ends)


STRUCTURES: tuple[tuple[Callable[[str, bytes], bool], tuple[Callable[[bytes, Random], bytes], ...]], ...] = (
    (_starts(b"\x93NUMPY"), (npy_header,)),
    (_starts(b"PK\x03\x04"), (zip_member,)),
    (_starts(b"PAR1"), (parquet_column,)),
    (_ends(".safetensors"), (tensor_header,)),
    (_ends(".jsonl", ".ndjson"), (json_lines,)),
    (_ends(".json", ".webmanifest"), (json_value, json_value, text_lines)),
    (_ends(".csv", ".tsv"), (table_cells, table_cells, text_lines)),
    (_ends(".yaml", ".yml", ".ini", ".cfg", ".toml"), (settings_text, settings_text, text_lines)),
    (_ends(".xml", ".html", ".md", ".ttl"), (markup, markup, text_lines)),
    (_starts(b"{", b"["), (json_value, json_lines, json_lines)),
    (_ends(".txt", ".ids", ".names", ".lst"), (text_lines, text_lines, change_number)),
)
"""What a file is by name or first bytes -> how its structure is damaged; the first row that fits counts."""


def damaged(name: str, content: bytes, rng: Random) -> bytes:
    """Content of a file, damaged; compressed content within its compression, at times."""
    for end, (compress, decompress) in OPENERS.items():
        if name.endswith(end) and rng.random() < 0.6:
            with contextlib.suppress(OSError, EOFError, ValueError, lzma.LZMAError, zlib.error):  # it is damaged already
                inner = decompress(content)
                return compress(damaged(name.removesuffix(end), inner, rng))
    structures = next((changes for fits, changes in STRUCTURES if fits(name, content)), ())
    if structures and rng.random() < 0.6:
        with contextlib.suppress(Exception):  # what is damaged already may hold no structure
            return rng.choice(structures)(content, rng)
    return rng.choice(BYTES)(content, rng)
