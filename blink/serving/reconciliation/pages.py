"""Previews of entities as HTML: a page for a frame, and a fragment for a tooltip. All text is escaped."""

from __future__ import annotations

from html import escape

from blink.data.records import Entity
from blink.serving.reconciliation.schema import Property, id_of

WIDTH, HEIGHT = 400, 160
"""Pixels of the frame of a preview."""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""Content security policy of a preview: it runs and loads nothing."""
_STYLE = """:root { color-scheme: light dark; font: 14px/1.4 system-ui, sans-serif }
body { margin: 8px; overflow-wrap: anywhere }
h1 { font-size: 16px; margin: 0 }
p { margin: 4px 0 }
.types { opacity: .75 }"""
_LONGEST = 500


def preview_page(entity: Entity) -> str:
    """The page of an entity, for a frame of `WIDTH` by `HEIGHT`."""
    title = escape(entity.title)
    address = entity.url if entity.url and entity.url.startswith(("http://", "https://")) else None
    heading = title if address is None else f'<a href="{escape(address)}" target="_blank" rel="noopener noreferrer">{title}</a>'
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style></head>'
        f"<body><h1>{heading}</h1>{_about(entity)}</body></html>\n"
    )


def entity_fragment(entity: Entity) -> str:
    """What a tooltip says of an entity."""
    return f"<p><b>{escape(entity.title)}</b></p>{_about(entity)}"


def type_fragment(name: str, count: int) -> str:
    """What a tooltip says of a type."""
    return f"<p><b>{escape(name)}</b></p><p>{counted(count)}</p>"


def counted(count: int) -> str:
    """A number of entities, in words."""
    return "1 entity" if count == 1 else f"{count:,} entities"


def property_fragment(of: Property) -> str:
    """What a tooltip says of a property."""
    return f"<p><b>{escape(of.name)}</b></p><p>{escape(of.description)}</p>"


def _about(entity: Entity) -> str:
    text = entity.text if len(entity.text) <= _LONGEST else f"{entity.text[: _LONGEST - 1]}\u2026"
    names = f"<p>also {escape(', '.join(entity.aliases[:5]))}</p>" if entity.aliases else ""
    types = f'<p class="types">{escape(", ".join((*entity.types, id_of(entity))))}</p>'
    return f"{types}<p>{escape(text)}</p>{names}"
