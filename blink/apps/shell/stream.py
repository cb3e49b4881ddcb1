"""Texts through a pipe: a line in, a JSON object out."""

from __future__ import annotations

from collections.abc import Iterator
from io import BufferedIOBase

from blink.apps.link import print_links
from blink.data.link_formats import LinkFormat
from blink.data.text_lines import decode_line
from blink.errors import DataError
from blink.linking.linker import Linker


def link_stream(linker: Linker, stream: BufferedIOBase, batch_size: int = 64) -> None:
    """Link the lines of ``stream`` and print a JSON object for each, in order.

    Lines go through the model as soon as they have arrived, so that a program may write one and wait for its answer.

    Raises:
        DataError: the stream is empty, or a line is no text; the lines before it have been answered.
    """
    count, name = 0, "standard input"
    for block in line_blocks(stream):
        texts, broken = [], None
        for raw in block:
            count += 1
            try:
                texts.append(decode_line(raw, count, name))
            except DataError as error:
                broken = error
                break
        print_links(linker.stream(texts, batch_size=batch_size), LinkFormat("json"))
        if broken is not None:
            raise broken
    if not count:
        raise DataError(f"{name} is empty; give one text per line")


def line_blocks(stream: BufferedIOBase) -> Iterator[list[bytes]]:
    """The complete lines of each read, without line feeds."""
    rest: list[bytes] = []
    while block := stream.read1(1 << 16):
        first, *others = block.split(b"\n")
        rest.append(first)
        if others:
            yield [b"".join(rest), *others[:-1]]
            rest = [others[-1]]
    if last := b"".join(rest):
        yield [last]
