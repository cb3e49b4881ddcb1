"""YAML from files: depth and size are checked before anything is made of it, so that no alias repeats itself without end."""

from __future__ import annotations

from typing import Any

import yaml

from blink.limits import exceeded, exceeds, limit


def loads(text: str) -> Any:
    """The value of a YAML text, of plain types alone.

    Raises:
        ValueError: it is no YAML, deeper than the limit ``yaml_depth``, or has more values than ``yaml_values``, those that its
            aliases repeat included; the message is one line.
    """
    try:
        _check_depth(text)
        node = yaml.compose(text, yaml.SafeLoader)
        if node is not None:
            _check_size(node)
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, OverflowError) as error:
        raise ValueError(f"not YAML ({' '.join(str(error).split())})") from error


def _check_depth(text: str) -> None:
    """Check depth before nodes are composed, which takes a call of a function a level."""
    depth, most = 0, limit("yaml_depth")
    for event in yaml.parse(text, yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > most:
            raise ValueError(exceeded("yaml_depth"))


def _check_size(root: yaml.Node) -> None:
    """Count the values, each as often as aliases repeat it."""
    sizes: dict[int, int] = {}
    fault = exceeds("yaml_values", _size(root, sizes, set()))
    if fault is not None:
        raise ValueError(fault)


def _size(node: yaml.Node, sizes: dict[int, int], above: set[int]) -> int:
    if id(node) in above:
        raise ValueError("not YAML of settings (an alias holds itself)")
    if id(node) not in sizes:
        above.add(id(node))
        inner = node.value if isinstance(node, yaml.CollectionNode) else ()
        parts = [part for pair in inner for part in pair] if isinstance(node, yaml.MappingNode) else inner
        sizes[id(node)] = 1 + sum(_size(part, sizes, above) for part in parts)
        above.discard(id(node))
    return sizes[id(node)]
