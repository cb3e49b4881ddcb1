"""Entity vectors of a step: frozen ones of the knowledge base, or trained ones of the candidate encoder."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from blink.kb.catalogue import Catalogue
from blink.model.adapters import add_adapters, has_adapters
from blink.model.biencoder import BiEncoder
from blink.model.pretrained import longest_input
from blink.model.tokenizer import pad


class EntityVectors(Protocol):
    """A source of entity vectors for a step."""

    def open(self, rows: Tensor) -> Tensor:
        """Vectors of catalogue rows, the same on every process. ``rows``: (n,), int64; result: (n, d), float32."""

    def backward(self) -> None:
        """Backpropagate the gradients of a whole step at the vectors to the encoder."""


class StoredVectors:
    """The frozen vectors of a knowledge base.

    Args:
        vectors: of all entities. *Shape:* (entities, d).
        device: of the step.
    """

    def __init__(self, vectors: np.ndarray, device: torch.device) -> None:
        self._vectors, self._device = vectors, device

    def open(self, rows: Tensor) -> Tensor:
        """See `EntityVectors.open`."""
        return torch.from_numpy(np.asarray(self._vectors[rows.cpu().numpy()], dtype=np.float32)).to(self._device)

    def backward(self) -> None:
        """Do nothing: the vectors are frozen."""


class LearningVectors:
    """Vectors of the candidate encoder, which encodes the entities of each step; every process encodes a share.

    The micro-batches accumulate their gradients at the vectors. Each process then backpropagates the sum of all processes
    through the vectors that it encoded, so that the gradient is that of the whole batch, however it is split.

    Args:
        model: the bi-encoder.
        catalogue: of the entities.
        accelerator: the processes.
        chunk: entities per forward pass; activations are stored for one chunk only and recomputed in the backward pass. 0
            encodes all entities at once.
    """

    def __init__(self, model: BiEncoder, catalogue: Catalogue, accelerator: Accelerator, chunk: int = 0) -> None:
        self._model, self._catalogue, self._accelerator, self._chunk = model, catalogue, accelerator, chunk
        self._local, self._leaf = torch.empty(0), torch.empty(0)
        self._bounds = (0, 0)

    def open(self, rows: Tensor) -> Tensor:
        """See `EntityVectors.open`."""
        processes, process = self._accelerator.num_processes, self._accelerator.process_index
        shares = rows.tensor_split(processes)
        first = sum(len(s) for s in shares[:process])
        self._bounds = (first, first + len(shares[process]))
        self._local = self._encode(shares[process])
        self._leaf = self._gather([len(s) for s in shares]).requires_grad_()
        return self._leaf

    def backward(self) -> None:
        """See `EntityVectors.backward`."""
        gradient = self._leaf.grad if self._leaf.grad is not None else torch.zeros_like(self._leaf)
        if self._accelerator.num_processes > 1:
            gradient = self._accelerator.reduce(gradient, "sum")
        if self._local.requires_grad:
            self._local.backward(gradient[slice(*self._bounds)])

    def _gather(self, counts: list[int]) -> Tensor:
        vectors = self._local.detach()
        if self._accelerator.num_processes == 1:
            return vectors.clone()
        room = nn.functional.pad(vectors, (0, 0, 0, max(counts) - len(vectors)))
        table = self._accelerator.gather(room).reshape(len(counts), max(counts), -1)
        return torch.cat([chunk[:count] for chunk, count in zip(table, counts, strict=True)])

    def _encode(self, rows: Tensor) -> Tensor:
        if not len(rows):
            return torch.empty(0, self._model.entity_size, device=self._accelerator.device)
        if not self._chunk:
            return self._encoded(*self._inputs(rows))
        inputs = [self._inputs(chunk) for chunk in rows.split(self._chunk)]
        return torch.cat([checkpoint(self._encoded, *chunk, use_reentrant=False) for chunk in inputs])

    def _inputs(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        config, tower = self._model.config, self._model.candidate_encoder
        assert tower is not None
        length = min(config.max_candidate_length, longest_input(tower))
        entities = [self._catalogue[row] for row in rows.tolist()]
        ids, mask = pad(
            self._model.tokenizer.entity_ids(entities, config.candidate_fields, length), self._model.tokenizer.pad_id
        )
        return torch.from_numpy(ids).to(self._accelerator.device), torch.from_numpy(mask).to(self._accelerator.device)

    def _encoded(self, ids: Tensor, mask: Tensor) -> Tensor:
        with autocast(self._accelerator):
            return self._model.encode_candidates(ids, mask)


def autocast(accelerator: Accelerator) -> AbstractContextManager[None]:
    """The autocast context of the encoders."""
    context: AbstractContextManager[None] = accelerator.autocast()
    return context


def prepare_towers(model: BiEncoder, entity_tower: str) -> None:
    """Freeze or train the candidate encoder: ``frozen``, ``adapters`` (of the context encoder's rank) or ``trained``."""
    tower = model.candidate_encoder
    if tower is None:
        return
    if entity_tower == "adapters" and not has_adapters(tower):
        add_adapters(tower, model.config.adapter_rank or 16)
    elif entity_tower != "adapters":
        tower.requires_grad_(entity_tower == "trained")
    if model.additional_linear is not None:
        model.additional_linear.requires_grad_(entity_tower != "frozen")


def as_stored(model: BiEncoder, learns_entities: bool) -> BiEncoder:
    """The model itself if it can be stored whole or as a difference to its base; else a `standalone` copy."""
    adapted = model.context_encoder is not None and has_adapters(model.context_encoder)
    return standalone(model) if learns_entities or (adapted and model.config.base is None) else model


def standalone(model: BiEncoder) -> BiEncoder:
    """A copy without a base model, with the adapters of both encoders merged."""
    towers = {"context_encoder": model.context_encoder, "candidate_encoder": model.candidate_encoder}
    present = {name: tower for name, tower in towers.items() if tower is not None}
    state = {k: v.detach() for k, v in model.state_dict().items() if not k.startswith(tuple(towers))}
    for name, tower in present.items():
        state |= {f"{name}.{k}": v for k, v in merged_state(tower).items()}
    vectors = BiEncoder.from_state(
        model.config.replace(base=None, base_sha256=None, adapter_rank=0),
        model.tokenizer,
        {name: tower.config.to_dict() for name, tower in present.items()},  # type: ignore[union-attr, operator]
        state,
        model.entity_size,
        context="context_encoder" in present,
        candidate="candidate_encoder" in present,
    ).to(next(model.parameters()).device)
    if vectors.candidate_encoder is not None:
        vectors.config = vectors.config.replace(candidate_fingerprint=vectors.candidate_fingerprint())
    return vectors


def merged_state(tower: nn.Module) -> dict[str, Tensor]:
    """The weights of an encoder with its adapters merged.

    Merging them in a deep copy would break the encoder, since torch parametrizes through a class that both share.
    """
    state = {}
    for name, tensor in tower.state_dict().items():
        module, parametrized, rest = name.partition(".parametrizations.weight.")
        if not parametrized:
            state[name] = tensor
        elif rest == "original":
            weight: Tensor = tower.get_submodule(module).weight  # type: ignore[assignment]
            state[f"{module}.weight"] = weight.detach()
    return state
