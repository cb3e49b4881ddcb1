"""An encoder that remembers the vectors of the last texts, since an entity is made of a record that was encoded before."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from blink.data.records import Entity
from blink.kb.vectors import Encoder

REMEMBERED = 1 << 14


class RememberingEncoder:
    """Encodes entities as ``encode`` does, those of the same title, text and aliases once.

    Args:
        encode: the encoder.
        remembered: most vectors that are kept.
    """

    def __init__(self, encode: Encoder, remembered: int = REMEMBERED) -> None:
        self._encode, self._remembered = encode, remembered
        self._vectors: OrderedDict[tuple[str, str, tuple[str, ...]], npt.NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def of(cls, encode: Encoder) -> RememberingEncoder:
        """An encoder that remembers: ``encode`` itself if it does."""
        return encode if isinstance(encode, cls) else cls(encode)

    def __call__(self, entities: Sequence[Entity]) -> npt.NDArray[np.float32]:
        """*Shape:* (entities, d), float32. Threads may call it together."""
        with self._lock:
            return self._remembered_or_encoded(entities)

    def _remembered_or_encoded(self, entities: Sequence[Entity]) -> npt.NDArray[np.float32]:
        keys = [(entity.title, entity.text, entity.aliases) for entity in entities]
        new = {key: entity for key, entity in zip(keys, entities, strict=True) if key not in self._vectors}
        encoded = dict(zip(new, self._encode(list(new.values())), strict=True)) if new else {}
        vectors = [encoded[key] if key in encoded else self._vectors[key] for key in keys]
        for key in keys:
            if key in encoded:
                self._vectors[key] = encoded[key]
            self._vectors.move_to_end(key)
        while len(self._vectors) > self._remembered:
            self._vectors.popitem(last=False)
        return np.stack(vectors) if vectors else self._encode([])
