"""Optimisers by name, for dense and for sparse gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Adam, Optimizer, SparseAdam

from blink.errors import SettingsError
from blink.kglm.graph.model import GraphModel
from blink.kglm.settings import GraphTrain


class RowwiseAdagrad(Optimizer):
    """Adagrad with one accumulator per row of a table, rather than per number: a table of millions of rows needs few more.

    Args:
        params: tables; a gradient may be sparse.
        lr: learning rate.
        eps: added to the root of the accumulator.
    """

    def __init__(self, params: Iterable[Tensor], lr: float = 0.1, eps: float = 1e-10) -> None:
        super().__init__(params, {"lr": lr, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move the rows that have a gradient."""
        for group in self.param_groups:
            for table in (p for p in group["params"] if p.grad is not None):
                state = self.state[table]
                if not state:
                    state["sum"] = table.new_zeros(len(table))
                rows, slopes = _rows_of(table.grad)
                state["sum"].index_add_(0, rows, slopes.square().flatten(1).mean(1))
                size = (state["sum"][rows].sqrt() + group["eps"]).view(-1, *[1] * (table.dim() - 1))
                table.index_add_(0, rows, slopes / size, alpha=-group["lr"])


def _rows_of(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """The rows that a gradient is of, and its values there. *Shapes:* (n,) and (n, ...)."""
    if gradient.is_sparse:
        gradient = gradient.coalesce()
        return gradient.indices()[0], gradient.values()
    return torch.arange(len(gradient), device=gradient.device), gradient


DENSE: dict[str, Callable[..., Optimizer]] = {"adam": Adam, "adagrad": Adagrad, "sgd": SGD, "rowwise_adagrad": RowwiseAdagrad}
SPARSE: dict[str, Callable[..., Optimizer]] = {**DENSE, "adam": SparseAdam}


class Optimisers:
    """The optimisers of a model: one for its tables, one for the parameters that its interaction may have.

    Args:
        model: the model.
        train: the section ``train``.
        sparse: whether gradients of tables are sparse.

    Raises:
        SettingsError: gradients are sparse and to be clipped.
    """

    def __init__(self, model: GraphModel, train: GraphTrain, sparse: bool) -> None:
        name = train.optimizer
        if sparse and train.clip:
            raise SettingsError("train.clip needs dense gradients; set it to 0, or model.sparse to false")
        tables = _learning([*model.entity_tables, *model.relation_tables])
        others = _learning(model.interaction.parameters())
        self._clip, self._all = train.clip, [*tables, *others]
        self._parts = [(SPARSE if sparse else DENSE)[name](tables, lr=train.lr)]
        if others:
            self._parts.append((Adam if name == "rowwise_adagrad" else DENSE[name])(others, lr=train.lr))

    def step(self, rate: float) -> None:
        """Move all parameters along their gradients, which are then cleared."""
        if self._clip:
            nn.utils.clip_grad_norm_(self._all, self._clip)
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = rate
            part.step()
            part.zero_grad(set_to_none=True)

    def state(self) -> list[dict[str, Any]]:
        """Tensors and plain values."""
        return [part.state_dict() for part in self._parts]

    def load_state(self, states: list[dict[str, Any]]) -> None:
        """Take back what `state` gave."""
        for part, state in zip(self._parts, states, strict=True):
            part.load_state_dict(state)


def _learning(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    return [p for p in parameters if p.requires_grad]
