"""``blink kb show`` and ``blink kb search``: entities of a knowledge base, by id or name."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import click

from blink.apps.common import bar
from blink.apps.model_options import model_option, where_options
from blink.errors import DataError, SettingsError

if TYPE_CHECKING:
    from blink.kb.knowledge_base import KnowledgeBase

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")


@click.command()
@click.argument("arguments", nargs=-1, metavar="[KB] ID|ROW|TITLE")
@_json
def show(arguments: tuple[str, ...], as_json: bool) -> None:
    """Show an entity in full: ids, types, tags, aliases, popularity, description, and where it is from.

    It is given by an id in any form, a row or a name; of a name all entities are listed. Without KB it is of the starter.

    \b
    Examples:
      blink kb show Q1022
      blink kb show my-kb https://www.wikidata.org/wiki/Q1022
      blink kb show my-kb "Georgia"
    """
    from blink.explaining.entities import entity_line, entity_lines, entity_object
    from blink.kb.entity_lookup import entities_of

    base, text = _opened(arguments, "ID|ROW|TITLE")
    entities, width = entities_of(base, text), _width()
    if as_json:
        click.echo("\n".join(json.dumps(entity_object(base, entity), ensure_ascii=False) for entity in entities))
    elif len(entities) == 1:
        click.echo("\n".join(entity_lines(base, entities[0], width)))
    else:
        click.echo("\n".join(entity_line(entity, width) for entity in entities))


@click.command()
@click.argument("arguments", nargs=-1, metavar="[KB] TEXT")
@where_options
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, metavar="N", help="Most entities.")
@click.option("--meaning", is_flag=True, help="Then also by meaning: entities whose description is the nearest to TEXT.")
@model_option("Model that made the vectors, for --meaning.  [default: the starter, if it did]")
@_json
def search(arguments: tuple[str, ...], limit: int, meaning: bool, model: str | None, as_json: bool, **where: Any) -> None:
    """Find entities by name: exactly it, then variants, then similar names; of each the best known first.

    Without KB they are of the starter.

    \b
    Examples:
      blink kb search Maria
      blink kb search my-kb "New York" --where "type=city|town" --limit 5 --json
    """
    from blink.explaining.entities import found_lines
    from blink.kb.where import where_from

    base, text = _opened(arguments, "TEXT", model)
    entities = base.search_names(text, limit, where_from(**where), meaning=meaning)
    if not entities:
        remedy = "leave --where out, or search by --meaning" if any(where.values()) else "--meaning searches descriptions"
        raise DataError(f"no entity has a name like {text!r}; {remedy}")
    click.echo("\n".join(found_lines(base, entities, _width(), as_json=as_json)))


def _opened(arguments: tuple[str, ...], what: str, model: str | None = None) -> tuple[KnowledgeBase, str]:
    from blink.linking.opening import open_kb_for_edits
    from blink.linking.starter import starter_kb

    if len(arguments) not in (1, 2):
        raise SettingsError(f"{len(arguments)} arguments were given; give {what}, and before it the folder of a knowledge base")
    return open_kb_for_edits(arguments[0] if len(arguments) == 2 else starter_kb(bar), model, bar), arguments[-1]


def _width() -> int:
    return shutil.get_terminal_size((120, 24)).columns
