"""``blink link``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blink.apps.common import bar, one_line, printable, say
from blink.data.prior_file import NO_PRIOR
from blink.data.records import LinkedText
from blink.errors import DataError, MissingFileError, SettingsError

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
    linker = Linker.from_pretrained(*folders, threshold=threshold, **options | {"prior": prior_of(model, kb, options)})
    warning = None if threshold is None else outside_probabilities(linker.mode, threshold)
    if warning:
        say(warning)
    return linker


def prior_of(model: str | None, kb: str | None, options: Mapping[str, Any]) -> Path | None:
    """The prior that `open_linker` takes: what is named, or the starter's own over its own; None for none."""
    from blink.apps.starter import starter_prior

    named = options.get("prior")
    if named is not None:
        return None if named == NO_PRIOR else Path(named)
    whole = options.get("rank", True) and not options.get("without")  # it is weighed for the scores of the whole ranker
    return starter_prior() if model is None and kb is None and whole else None


def outside_probabilities(mode: str, threshold: float) -> str | None:
    """What to say of a threshold that no score of a linker in ``mode`` can be on; None where all is well.

    Minus infinity is well everywhere: it asks for everything.
    """
    if mode != "probability" or 0 <= threshold <= 1 or threshold == float("-inf"):
        return None
    kept = "every link is" if threshold < 0 else "no link is"
    return f"scores are probabilities, from 0 to 1, and the threshold is {threshold:g}: {kept} above it"


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
    """The text, and a line per link, without characters that would change a terminal."""
    yield printable(linked.text)
    for link in linked.links:
        name = one_line(link.kb_id or f"row {link.row}")
        found = f"{one_line(link.mention)} -> {one_line(link.title)} ({name})"
        yield f"  {link.start}-{link.end}  {found}  {link.score:.3f}"
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
