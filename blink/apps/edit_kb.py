"""Commands of ``blink kb`` that edit: add, update, remove, list, undo, history, snapshot, rollback and compact."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from blink.apps.common import bar, say
from blink.apps.model_options import model_option
from blink.errors import SettingsError

if TYPE_CHECKING:
    from blink.kb.knowledge_base import KnowledgeBase
    from blink.kb.live.changes import Transaction

_model = model_option("Model that made the vectors.  [default: the starter, if it did]")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")
_note = click.option("--note", default="", metavar="TEXT", help="Why, for the history.")
_kb = click.argument("kb", metavar="KB")


def _fields(command: Any) -> Any:
    """The options that hold what an entity has."""
    options = [
        click.option("--title", metavar="TEXT", help="Name of the entity."),
        click.option("--text", metavar="TEXT", help="Description, by which it is recognised in texts."),
        click.option("--id", "kb_id", metavar="ID", help="Its id."),
        click.option("--url", metavar="URL", help="Its address."),
        click.option("--alias", "aliases", multiple=True, metavar="NAME", help="Another name; may be repeated."),
        click.option("--type", "types", multiple=True, metavar="NAME", help="What it is, such as city; may be repeated."),
        click.option("--tag", "tags", multiple=True, metavar="NAME", help="A label of yours; may be repeated."),
        click.option("--same-as", "ids", multiple=True, metavar="SYSTEM=ID", help="Id in another system; may be repeated."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _opened(kb: str, model: str | None = None) -> KnowledgeBase:
    from blink.linking.opening import open_kb_for_edits

    return open_kb_for_edits(kb, model, bar)


@click.command()
@_kb
@click.argument("file", metavar="[FILE]", required=False)
@_fields
@click.option("--atomic", is_flag=True, help="All entities of FILE or none.")
@_note
@_model
@_json
def add(kb: str, file: str | None, atomic: bool, note: str, model: str | None, as_json: bool, **fields: Any) -> None:
    """Add an entity, or those of FILE, which are linked at once, without a rebuild.

    FILE is any that `blink kb build` reads, such as JSON lines or CSV; - is JSON lines from standard input.

    An import that was stopped continues where it was: entities that are there with the same content are passed over.

    \b
    Example:
      blink kb add my-kb --title Zorblax --text "A moon of Kepler-1649c." --id X1 --alias Zorb
      blink kb add my-kb more.jsonl --note "products of May"
    """
    from blink.kb.live.lines import fields_from
    from blink.kb.live.shown import entity_shown

    given = fields_from(fields)
    if (file is None) == (not given) or (atomic and file is None):
        raise SettingsError("give either --title and what else the entity has, or a FILE of entities; --atomic is for a FILE")
    base = _opened(kb, model)
    if file is not None:
        _import(base, file, atomic, note, as_json)
        return
    click.echo(entity_shown("added", base.add(given, note), as_json))


def _import(base: KnowledgeBase, file: str, atomic: bool, note: str, as_json: bool) -> None:
    from blink.kb.live.importing import Imported, entities_of, import_entities
    from blink.stopping import StoppedBySignal, signals_raise

    counts, before = Imported(), base.changes.number
    try:
        with bar("adding", None, "entity") as progress, signals_raise():
            import_entities(
                base, entities_of(file, sys.stdin.buffer), atomic=atomic, note=note, counts=counts, advance=progress.advance
            )
    except StoppedBySignal as stop:
        base.refresh()  # the signal may have come after the last edit was written, but before it was counted
        say(f"blink: stopped; {base.changes.number - before:,} edits were made and are kept; the same command continues")
        raise SystemExit(128 + stop.signal) from stop
    click.echo(json.dumps(vars(counts)) if as_json else str(counts))


@click.command()
@_kb
@click.argument("id", metavar="ID")
@_fields
@_note
@_model
@_json
def update(kb: str, id: str, note: str, model: str | None, as_json: bool, **fields: Any) -> None:
    """Change an entity, given by its id or row. What is not mentioned stays; an empty text clears a field.

    \b
    Example:
      blink kb update my-kb X1 --text "The largest moon of Kepler-1649c." --alias Zorb --alias "Zorblax Prime"
    """
    from blink.kb.live.editing import named
    from blink.kb.live.lines import fields_from
    from blink.kb.live.shown import entity_shown

    given = fields_from(fields)
    if not given:
        raise SettingsError("nothing to change: give --title, --text, --id, --url, --alias, --type, --tag or --same-as")
    base = _opened(kb, model)
    click.echo(entity_shown("updated", base.update(named(base.state, id), note, **given), as_json))


@click.command()
@_kb
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@_note
@_json
def remove(kb: str, ids: tuple[str, ...], note: str, as_json: bool) -> None:
    """Remove entities, given by id or row, together or not at all. Their rows stay empty; blink kb undo brings them back.

    \b
    Example:
      blink kb remove my-kb X1
    """
    from blink.kb.live import editing

    base = _opened(kb)
    _print(editing.commit(base, editing.remove([editing.named(base.state, key) for key in ids], note)), as_json)


@click.command(name="list")
@_kb
@click.option("--changed", is_flag=True, help="Only what edits change of the files: + added, ~ changed, - removed.")
@_json
def list_entities(kb: str, changed: bool, as_json: bool) -> None:
    """List the entities by row; with --json as the lines of a catalogue.

    \b
    Example:
      blink kb list my-kb --changed
    """
    from blink.kb.live.shown import listed

    for text in listed(_opened(kb).state, changed=changed, as_json=as_json):
        click.echo(text)


@click.command()
@_kb
@click.argument("number", metavar="[N]", type=click.IntRange(1), required=False)
@click.option("--with-later", is_flag=True, help="Undo later edits of the same entities too.")
@_model
@_json
def undo(kb: str, number: int | None, with_later: bool, model: str | None, as_json: bool) -> None:
    """Undo edit N of blink kb history, by default the last that was not undone. To undo an undo makes the edit again.

    \b
    Example:
      blink kb undo my-kb
    """
    _print([_opened(kb, model).undo(number, with_later=with_later)], as_json)


@click.command()
@_kb
@click.option("--last", type=click.IntRange(1), metavar="N", help="Only the last N edits.")
@_json
def history(kb: str, last: int | None, as_json: bool) -> None:
    """Show all edits, the last at the end.

    \b
    Example:
      blink kb history my-kb --last 10
    """
    from blink.kb.live.shown import history, transaction_shown

    state = _opened(kb).state
    for transaction, undone in history(state, last):
        click.echo(transaction_shown(transaction, as_json, undone))
    if not state.number:
        say(f"{kb}: nothing was edited")


@click.command()
@_kb
@click.argument("name", metavar="NAME")
@_json
def snapshot(kb: str, name: str, as_json: bool) -> None:
    """Give the current state a name, to which blink kb rollback returns.

    \b
    Example:
      blink kb snapshot my-kb before-import
    """
    _print([_opened(kb).snapshot(name)], as_json)


@click.command()
@_kb
@click.argument("to", metavar="NAME|N")
@_model
@_json
def rollback(kb: str, to: str, model: str | None, as_json: bool) -> None:
    """Make all entities as they were at a snapshot, or after edit N (0: before the first). It can be undone as any edit.

    \b
    Example:
      blink kb rollback my-kb before-import
    """
    _print([_opened(kb, model).rollback(int(to) if to.isascii() and to.isdigit() else to)], as_json)


@click.command()
@_kb
def compact(kb: str) -> None:
    """Make the edits part of the files, which linking then starts with faster. Nothing is encoded, no row changes its number,
    and undo and rollback still reach the edits before.

    \b
    Example:
      blink kb compact my-kb
    """
    base = _opened(kb)
    folded = base.compact(bar)
    click.echo(f"{kb}: {f'{folded:,} edits are part of the files now' if folded else 'there is no edit to compact'}")


def _print(transactions: Iterable[Transaction], as_json: bool) -> None:
    from blink.kb.live.shown import transaction_shown

    for transaction in transactions:
        click.echo(transaction_shown(transaction, as_json))
