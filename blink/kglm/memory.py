"""What a run over triples will need of memory, compared with what there is before anything is allocated."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch

from blink.errors import SettingsError
from blink.kglm.graph.interactions import INTERACTIONS, make_interaction
from blink.kglm.settings import GraphSections
from blink.machine import free_bytes

FLOAT, DOUBLE = 4, 8
STATE = {"adam": 2, "adagrad": 1, "sgd": 0, "rowwise_adagrad": 0}
"""Values that an optimiser keeps for each value of a table."""
SCORES = 3
"""Copies of the scores of a step: themselves, their logarithms, their gradients."""


def estimate(settings: GraphSections, entities: int, relations: int) -> dict[str, int]:
    """Bytes of the tables with gradients and optimiser, of a step, and of a batch of a validation; a lower bound.

    Args:
        settings: of the run.
        entities: number of entities.
        relations: number of relations.
    """
    model, train = settings.model, settings.train
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        interaction = make_interaction(model.name, model.dim, model.relation_dim or model.dim, model.arguments)
    shapes = interaction.shapes(model.dim, model.relation_dim or model.dim)
    width, relation_width = (sum(prod(shape) for shape in of_kind) for of_kind in shapes)
    others = sum(p.numel() for p in interaction.parameters())
    values = entities * width + relations * (2 if model.reciprocal else 1) * relation_width + others
    gradients = 0 if model.sparse else 1
    queries = train.part_size or train.batch_size
    if train.type != "negative":
        pairs = 1 if model.name.lower() in INTERACTIONS else 2 * width  # others make a vector for each pair
        step = queries * entities * SCORES * pairs
    elif settings.negatives.shared or settings.negatives.draw == "batch":
        step = queries * (settings.negatives.count * SCORES + 2 * width) + settings.negatives.count * width
    else:
        step = queries * (settings.negatives.count + 1) * width * 2
    block = min(settings.eval.chunk, entities)
    return {
        "tables": FLOAT * values * (1 + gradients + STATE[train.optimizer]),
        "a step": FLOAT * step,
        "a validation": DOUBLE * block * (settings.eval.batch_size * SCORES + width),
    }


def require_memory(settings: GraphSections, entities: int, relations: int, device: torch.device) -> None:
    """Check that the run fits into the memory that is free.

    Raises:
        SettingsError: it does not; the message has the estimate and settings that need less.
    """
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_bytes()
    parts = estimate(settings, entities, relations)
    need = parts["tables"] + max(parts["a step"], parts["a validation"])
    if free is None or need <= free:
        return
    listed = ", ".join(f"{name} {_gb(size)}" for name, size in parts.items())
    message = f"the run needs at least {_gb(need)} of memory ({listed}) for {entities:,} entities, and {_gb(free)} are free"
    raise SettingsError(f"{message}; {' or '.join(_remedies(settings, parts, free))}")


def _remedies(settings: GraphSections, parts: dict[str, int], free: int) -> Sequence[str]:
    """Settings that need less, the most effective first."""
    train, remedies = settings.train, []
    if parts["a step"] >= parts["tables"]:
        queries = train.part_size or train.batch_size
        fitting = int(queries * max(free - parts["tables"], 0) / max(parts["a step"], 1) * 0.8)
        if fitting:
            remedies.append(f"set train.part_size to {fitting}")
        if train.type != "negative":
            remedies.append("take train.type negative with negatives.shared true")
    if parts["tables"] > free / 2 and not settings.model.sparse:
        remedies.append("take model.sparse true with train.type negative and train.optimizer rowwise_adagrad")
    if parts["a validation"] > parts["a step"]:
        remedies.append("lower eval.batch_size")
    return [*remedies, "lower model.dim"]


def _gb(size: int) -> str:
    return f"{size / 1e9:,.1f} GB"
