"""``blink link`` and ``blink eval``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blink.apps.common import bar
from blink.data.mention_files import bind, read_samples, require_rows
from blink.data.records import LinkedText
from blink.errors import DataError, MissingFileError, SettingsError
from blink.files import atomic_open, write_json

if TYPE_CHECKING:
    from blink.linking.linker import Linker


def open_linker(model: str | None, kb: str | None, threshold: float | None = None, **options: Any) -> Linker:
    """A linker from command-line options; the starter stands in for what is not named. ``options`` are those of `Linker`."""
    from blink.apps.starter import starter_kb, starter_model
    from blink.linking.linker import Linker

    if model is not None and kb is None:
        raise SettingsError("--model is given without --kb; name the knowledge base built with that model (blink kb build)")
    # Not `model or ...`: an empty name is a mistake (an unset variable, perhaps), no request for the starter.
    folders = (starter_model() if model is None else model, starter_kb() if kb is None else kb)
    return Linker.from_pretrained(*folders, threshold=threshold, **options)


def link_texts(texts: tuple[str, ...], file: str | None, as_json: bool, batch_size: int, **options: Any) -> None:
    """Link texts and print the links, as people or as programs read them."""
    if texts and file is not None:
        raise SettingsError("texts and --file are both given; give one of them")
    if not texts and file is None and sys.stdin.isatty():
        raise SettingsError('there is nothing to link; give a text ("..."), or --file F, or pipe texts in')
    if texts:
        checked = [check_text(t, f"text {n}") for n, t in enumerate(texts, 1)]
        if not any(t.strip() for t in checked):
            raise DataError("the text is empty; give a text with words in it")
    source = checked if texts else read_lines(file or "-")
    linker = open_linker(**options)
    with bar("linking", len(texts) or None, "text") as shown:
        for linked in linker.link(source, batch_size=batch_size, progress=shown.advance):
            print_linked(linked, as_json)


def print_linked(linked: LinkedText, as_json: bool) -> None:
    """Print one text's links on standard output."""
    if as_json:
        # A terminal that is not UTF-8 gets escapes, which are the same JSON.
        escaped = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
        sys.stdout.write(json.dumps(linked.to_json(), ensure_ascii=escaped) + "\n")
    else:
        sys.stdout.write("\n".join(describe(linked)) + "\n")
    sys.stdout.flush()


def describe(linked: LinkedText) -> Iterator[str]:
    """The text, and a line per link."""
    yield linked.text
    for link in linked.links:
        name = link.kb_id or f"row {link.row}"
        yield f"  {link.start}-{link.end}  {link.mention} -> {link.title} ({name})  {link.score:.3f}"
    if not linked.links:
        yield "  no links"


def read_lines(file: str) -> Iterator[str]:
    """Yield the lines of a text file, or of standard input for ``-``, without their line ends.

    Raises:
        MissingFileError: there is no such file.
        DataError: it is empty, or a line is not text; the message names the line.
    """
    if file != "-" and (not Path(file).exists() or Path(file).is_dir()):  # a device or a pipe will do
        found = "is a folder, not a file" if Path(file).is_dir() else "does not exist"
        raise MissingFileError(f"{file} {found}; give a file with one text per line")
    name = "standard input" if file == "-" else file
    stream = sys.stdin.buffer if file == "-" else Path(file).open("rb")  # noqa: SIM115 - closed below
    count = 0
    try:
        for count, raw in enumerate(stream, 1):
            yield decode_line(raw, count, name)
    finally:
        if file != "-":
            stream.close()
    if not count:
        raise DataError(f"{name} is empty; give one text per line")


def decode_line(raw: bytes, number: int, name: str) -> str:
    """The text of line ``number`` (from 1) of ``name``, without its line end.

    Raises:
        DataError: it is not text.
    """
    try:
        line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{name}, line {number}: not UTF-8 (byte {error.start}); save the texts as UTF-8") from error
    return check_text(line.rstrip("\r\n"), f"{name}, line {number}")


def check_text(text: str, where: str) -> str:
    """Return ``text`` if it can be linked.

    Raises:
        DataError: it holds a NUL or half a surrogate pair, so it is not text but something else, or was cut apart.
    """
    at = next((i for i, c in enumerate(text) if c == "\0" or "\ud800" <= c <= "\udfff"), None)
    if at is None:
        return text
    found = "a NUL" if text[at] == "\0" else "a byte that is not UTF-8, or a lone surrogate,"
    raise DataError(f"{where}: {found} at character {at}; give well-formed text")


def evaluate_file(file: str, json_out: str | None, rows_out: str | None, batch_size: int, **options: Any) -> None:
    """Link the texts of a mention file, compare with its gold, and report."""
    from blink.evaluation.report import evaluate, format_report, question_from, question_rows

    samples = list(read_samples(file))
    unlabelled = next((s.id for s in samples if s.mentions is None), None)
    if unlabelled is not None:
        raise DataError(
            f"{file}: {unlabelled!r} has no gold mentions in characters; "
            "evaluation needs 'mentions' with 'label_id' or 'wikidata_id'"
        )
    for out in (json_out, rows_out):
        if out not in (None, "-"):
            _check_out(Path(str(out)))
    if json_out == rows_out == "-":
        raise SettingsError("--json and --rows both go to standard output; give one of them a file")
    linker = open_linker(**options)
    samples = list(bind(samples, linker.catalogue))
    require_rows(samples, len(linker.catalogue))
    started = time.perf_counter()
    with bar("linking", len(samples), "question") as shown:
        linked = list(linker.link([s.text for s in samples], batch_size=batch_size, progress=shown.advance))
    speed = len(samples) / (time.perf_counter() - started)
    questions = [question_from(s, found) for s, found in zip(samples, linked, strict=True)]
    report = evaluate(questions)
    figures = report.to_json(threshold=linker.cut.score, questions_per_s=speed)
    if rows_out is not None:
        _write_rows(rows_out, question_rows(questions))
    if json_out == "-":
        sys.stdout.write(json.dumps(figures) + "\n")
    elif json_out is not None:
        write_json(json_out, figures)
    if "-" in (json_out, rows_out):
        return
    sys.stdout.write(f"{format_report(report)}\nthreshold = {linker.cut.score:g}\nquestions per second = {speed:.1f}\n")


def _check_out(path: Path) -> None:
    """Say now what would fail when all the work is done."""
    if path.is_dir():
        raise SettingsError(f"{path} is a folder; name a file to write")
    if not path.parent.is_dir():
        raise MissingFileError(f"{path.parent} does not exist; make the folder, or write elsewhere")


def _write_rows(path: str, rows: Iterable[dict[str, Any]]) -> None:
    if path == "-":
        sys.stdout.writelines(json.dumps(row) + "\n" for row in rows)
        return
    with atomic_open(path) as f:
        f.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
