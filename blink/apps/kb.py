"""``blink kb``: knowledge bases."""

from __future__ import annotations

import click

from blink.apps.lazy import LazyGroup

COMMANDS = {
    "build": ("blink.apps.build_kb:build", "Encode entities and index them."),
    "new": ("blink.apps.build_kb:new", "Make a knowledge base without entities."),
    "anchors": ("blink.apps.dumps:anchors", "Make training data of Wikipedia's links."),
    "from-wikidata": ("blink.apps.dumps:from_wikidata", "Make a catalogue of Wikidata's JSON dump."),
    "from-wikipedia": ("blink.apps.dumps:from_wikipedia", "Make a catalogue of Wikipedia's XML dump."),
    "index": ("blink.apps.index_kb:index", "Replace the index of a knowledge base."),
    "add": ("blink.apps.edit_kb:add", "Add entities, which are linked at once."),
    "update": ("blink.apps.edit_kb:update", "Change an entity."),
    "remove": ("blink.apps.edit_kb:remove", "Remove entities."),
    "list": ("blink.apps.edit_kb:list_entities", "List entities, or what was changed."),
    "show": ("blink.apps.look_up:show", "Show an entity in full."),
    "search": ("blink.apps.look_up:search", "Find entities by name."),
    "undo": ("blink.apps.edit_kb:undo", "Undo an edit."),
    "history": ("blink.apps.edit_kb:history", "Show all edits."),
    "snapshot": ("blink.apps.edit_kb:snapshot", "Give the current state a name."),
    "rollback": ("blink.apps.edit_kb:rollback", "Return to a snapshot or an edit."),
    "compact": ("blink.apps.edit_kb:compact", "Make the edits part of the files."),
    "check": ("blink.apps.check_kb:check", "Check files, vectors, names and index of a knowledge base."),
    "verify": ("blink.apps.check_kb:verify", "Compare all files with the hashes of the manifest."),
}
"""Name -> where the command is, and its short help."""


@click.group(cls=LazyGroup, table=COMMANDS)
def kb() -> None:
    """Make, edit and check knowledge bases.

    \b
    Try:
      blink kb build entities.csv --out my-kb    of a table, or JSON lines
      blink kb search my-kb ada                  entities by name
      blink kb add my-kb --title Zorblax --text "A moon of Kepler-1649c."
      blink kb undo my-kb                        take the last edit back
      blink link "Zorblax is cold." --kb my-kb
    """
