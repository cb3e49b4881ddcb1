"""Entity linking in one BERT pass: finds mentions in text and links them to a knowledge base."""

from __future__ import annotations

TYPE_CHECKING = False  # of `typing`, whose import takes longer than this module
if TYPE_CHECKING:
    from typing import Any

    from blink.data.records import Candidate, Entity, Link, LinkedText, Mention
    from blink.errors import BlinkError
    from blink.kb.knowledge_base import KnowledgeBase
    from blink.linking.linker import Linker, load
    from blink.model.biencoder import BiEncoder

__version__ = "0.1.0"
__all__ = [
    "BiEncoder",
    "BlinkError",
    "Candidate",
    "Entity",
    "KnowledgeBase",
    "Link",
    "LinkedText",
    "Linker",
    "Mention",
    "__version__",
    "load",
]

_MODULES = {
    "blink.data.records": ("Candidate", "Entity", "Link", "LinkedText", "Mention"),
    "blink.errors": ("BlinkError",),
    "blink.linking.linker": ("Linker", "load"),
    "blink.linking.opening": ("KnowledgeBase",),
    "blink.model.biencoder": ("BiEncoder",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    # Imported on first use: `blink --help` need not wait for torch.
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'blink' has no attribute {name!r}")
    from importlib import import_module

    from blink.extras import extras_for

    with extras_for(f"uses of blink.{name}"):
        return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
