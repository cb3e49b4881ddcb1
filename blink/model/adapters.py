"""Low-rank adapters (Hu et al. 2022, "LoRA"): what is trained and shipped instead of a whole encoder.

Each adapted weight is W + B A, with A of shape (rank, in) and B of shape (out, rank). Adapters are torch
parametrisations, so any encoder made of linear layers takes them, and merging them away is exact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from blink.model.stored_weights import FACTORS

_A, _B = FACTORS


class LowRankDelta(nn.Module):
    """Adds B A to a weight. B is zero at first, so a new adapter changes nothing."""

    def __init__(self, out_features: int, in_features: int, rank: int) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.empty(rank, in_features))
        self.b = nn.Parameter(torch.zeros(out_features, rank))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the adapted weight, of the shape of ``weight``."""
        return weight + self.b @ self.a


def add_adapters(encoder: nn.Module, rank: int) -> None:
    """Give every linear layer of ``encoder`` an adapter, and train nothing but adapters, biases and layer norms."""
    # By kind, not by name: what BERT calls LayerNorm is sa_layer_norm and output_layer_norm in DistilBERT.
    norms = {id(p) for module in encoder.modules() if isinstance(module, nn.LayerNorm) for p in module.parameters()}
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad = name.endswith("bias") or id(parameter) in norms
    for module in list(encoder.modules()):
        if isinstance(module, nn.Linear):
            delta = LowRankDelta(module.out_features, module.in_features, rank)
            parametrize.register_parametrization(module, "weight", delta)
            module.parametrizations.weight.original.requires_grad = False  # type: ignore[union-attr]


def merge_adapters(encoder: nn.Module) -> None:
    """Fold the adapters into the weights they adapt: the same function with no further cost."""
    for module in encoder.modules():
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)


def has_adapters(encoder: nn.Module) -> bool:
    """Whether ``encoder`` has adapters that are not merged into its weights."""
    return any(isinstance(module, LowRankDelta) for module in encoder.modules())


def trained_state(encoder: nn.Module) -> dict[str, Tensor]:
    """The tensors that `add_adapters` leaves trainable: what has to be stored with the name of the base."""
    return {name: p.detach() for name, p in encoder.named_parameters() if p.requires_grad}


def shrunk(state: Mapping[str, Tensor], rank: int) -> dict[str, Tensor]:
    """Bring stored adapters to a lower rank: each product B A is replaced by its nearest of that rank.

    Nearest by the Frobenius norm (Eckart & Young 1936), which a singular value decomposition gives; the two factors share
    its singular values. What is no adapter stays.

    Args:
        state: tensors of a model folder; of an adapter ``.a`` (rank, in) and ``.b`` (out, rank).
        rank: of the result, at least 1; adapters of no higher rank stay.
    """
    reduced = dict(state)
    for name in [n for n in state if n.endswith(_A) and state[n].shape[0] > rank]:
        other = name.removesuffix(_A) + _B
        u, s, v = torch.linalg.svd(state[other].double() @ state[name].double(), full_matrices=False)
        root = s[:rank].sqrt()
        reduced[name] = (root[:, None] * v[:rank]).to(state[name].dtype)
        reduced[other] = (u[:, :rank] * root).to(state[other].dtype)
    return reduced
