"""Entity linking in one BERT pass: finds mentions in text and links them to a knowledge base."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blink.kb.knowledge_base import KnowledgeBase
    from blink.linking.linker import Linker
    from blink.model.biencoder import BiEncoder

__version__ = "0.1.0"
__all__ = ["BiEncoder", "KnowledgeBase", "Linker", "__version__"]

_HOMES = {
    "BiEncoder": "blink.model.biencoder",
    "KnowledgeBase": "blink.kb.knowledge_base",
    "Linker": "blink.linking.linker",
}


def __getattr__(name: str) -> Any:
    # Imported on first use: `blink --help` need not wait for torch.
    if name not in _HOMES:
        raise AttributeError(f"module 'blink' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
