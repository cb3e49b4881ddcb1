"""Caches of an object's results that do not keep the object alive."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar
from weakref import WeakMethod

K = TypeVar("K")
V = TypeVar("V")


def cached_calls(method: Callable[[K], V], size: int) -> Callable[[K], V]:
    """The last ``size`` results of a bound method, to be kept as an attribute of its object.

    With `lru_cache` alone the object, its cache and the bound method refer to each other in a circle, which is freed only when
    the garbage collector comes by. States of an edited knowledge base hold large arrays: many of them would wait for it.
    """
    reference = WeakMethod(method)

    def call(argument: K) -> V:
        bound = reference()
        assert bound is not None, "the cache outlived its object"
        return bound(argument)

    return lru_cache(maxsize=size)(call)
