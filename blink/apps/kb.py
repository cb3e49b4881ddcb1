"""``blink kb``: knowledge bases."""

from __future__ import annotations

import click

from blink.apps.lazy import LazyGroup

COMMANDS = {
    "build": ("blink.apps.build_kb:build", "Encode a catalogue and index it."),
    "index": ("blink.apps.index_kb:index", "Replace the index of a knowledge base."),
    "check": ("blink.apps.check_kb:check", "Check files, vectors, names and index of a knowledge base."),
}
"""Name -> where the command is, and its short help."""


@click.group(cls=LazyGroup, table=COMMANDS)
def kb() -> None:
    """Make and check knowledge bases."""
