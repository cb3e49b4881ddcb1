"""Optimisers by name, for dense and sparse gradients."""

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
    """Adagrad with one accumulator per row instead of per value, which saves memory for tables of millions of rows.

    Args:
        params: tables; gradients may be sparse.
        lr: learning rate.
        eps: added to the square root of the accumulator.
    """

    def __init__(self, params: Iterable[Tensor], lr: float = 0.1, eps: float = 1e-10) -> None:
        super().__init__(params, {"lr": lr, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update the rows that have a gradient."""
        for group in self.param_groups:
            for table in (p for p in group["params"] if p.grad is not None):
                state = self.state[table]
                if not state:
                    state["sum"] = table.new_zeros(len(table))
                rows, gradients = _rows_of(table.grad)
                state["sum"].index_add_(0, rows, gradients.square().flatten(1).mean(1))
                size = (state["sum"][rows].sqrt() + group["eps"]).view(-1, *[1] * (table.dim() - 1))
                table.index_add_(0, rows, gradients / size, alpha=-group["lr"])


def _rows_of(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of a gradient and their values. *Shapes:* (n,) and (n, ...)."""
    if gradient.is_sparse:
        gradient = gradient.coalesce()
        return gradient.indices()[0], gradient.values()
    return torch.arange(len(gradient), device=gradient.device), gradient


DENSE: dict[str, Callable[..., Optimizer]] = {"adam": Adam, "adagrad": Adagrad, "sgd": SGD, "rowwise_adagrad": RowwiseAdagrad}
SPARSE: dict[str, Callable[..., Optimizer]] = {**DENSE, "adam": SparseAdam}


class Optimisers:
    """The optimisers of a model: one for its tables, and one for parameters of its interaction, if any.

    Args:
        model: the model.
        train: the section ``train``.
        sparse: whether gradients of tables are sparse.

    Raises:
        SettingsError: gradients are sparse, and clipping is on.
    """

    def __init__(self, model: GraphModel, train: GraphTrain, sparse: bool) -> None:
        name = train.optimizer
        if sparse and train.clip:
            raise SettingsError("train.clip needs dense gradients; set it to 0, or model.sparse to false")
        tables = _trainable([*model.entity_tables, *model.relation_tables])
        others = _trainable(model.interaction.parameters())
        self._clip, self._all = train.clip, [*tables, *others]
        self._optimisers = [(SPARSE if sparse else DENSE)[name](tables, lr=train.lr)]
        if others:
            self._optimisers.append((Adam if name == "rowwise_adagrad" else DENSE[name])(others, lr=train.lr))

    def step(self, rate: float) -> None:
        """Update all parameters and clear their gradients."""
        if self._clip:
            nn.utils.clip_grad_norm_(self._all, self._clip)
        for optimiser in self._optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    def state(self) -> list[dict[str, Any]]:
        """Tensors and plain values."""
        return [optimiser.state_dict() for optimiser in self._optimisers]

    def load_state(self, states: list[dict[str, Any]]) -> None:
        """Restore the result of `state`."""
        for optimiser, state in zip(self._optimisers, states, strict=True):
            optimiser.load_state_dict(state)


def _trainable(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    return [p for p in parameters if p.requires_grad]
