"""A training step: the loss of a batch, computed in micro-batches by any number of processes, and the update."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from blink.data.records import NOT_IN_CATALOGUE
from blink.errors import SettingsError
from blink.model.biencoder import BiEncoder
from blink.runs.checkpoints import learning_state, load_learning_state
from blink.runs.seeds import step_seed
from blink.training.data.examples import Batch
from blink.training.settings import TrainSettings
from blink.training.step.losses import span_count, span_loss
from blink.training.step.objectives import Entities, Objective, needed_rows, parse_objectives
from blink.training.step.towers import EntityVectors, autocast

TOP_LAYERS = {"all_encoder_layers": None, "top4_layers": 4, "top_layer": 1, "additional_layers": 0}
"""Number of upper layers that are trained, by the original's names; None means all layers, without the embeddings."""


@dataclass(frozen=True)
class GlobalBatchInfo:
    """Totals and entities of a batch over all processes.

    Attributes:
        totals: divisor of each objective.
        spans: number of spans of all texts.
        named: gold rows of the mentions. *Shape:* (n,), int64, ascending.
        needed: gold rows and negatives. *Shape:* (n,), int64, ascending.
    """

    totals: tuple[int, ...]
    spans: int
    named: Tensor
    needed: Tensor


class Stepper:
    """Takes the steps of a run.

    Args:
        model: on its device.
        accelerator: device, dtype and processes.
        settings: of the run.
        vectors: source of entity vectors.
        catalogue: vectors of all entities, for objectives that need them. *Shape:* (entities, d).
        total_steps: length of the schedule.
    """

    def __init__(
        self,
        model: BiEncoder,
        accelerator: Accelerator,
        settings: TrainSettings,
        vectors: EntityVectors,
        catalogue: Tensor | None,
        total_steps: int,
    ) -> None:
        self.model, self.accelerator, self.settings = model, accelerator, settings
        self.objectives: tuple[Objective, ...] = parse_objectives(settings.objective)
        self.total_steps = total_steps
        self._vectors, self._catalogue = vectors, catalogue
        self.trained = [p for p in model.parameters() if p.requires_grad]
        groups = parameter_groups(model, settings)
        self._peaks = [group["lr"] for group in groups]
        self.optimizer = accelerator.prepare_optimizer(torch.optim.AdamW(groups))

    def step(self, number: int, batches: Sequence[Batch], where: str) -> dict[str, float]:
        """Take step ``number`` of the run on this process's micro-batches.

        The seed of dropout depends only on the step, so that a resumed run equals an uninterrupted one.

        Returns:
            entity and span loss of the batch, over all processes.

        Raises:
            SettingsError: a loss or gradient is NaN or infinite; the message names ``where`` and the texts.
        """
        torch.manual_seed(step_seed(self.settings.seed, number, self.accelerator.process_index))
        info = self._agree(batches)
        entities = self._open(info)
        self.optimizer.zero_grad(set_to_none=True)
        sums = [0.0, 0.0]
        for batch in batches:
            losses = self._losses(batch.to(self.accelerator.device), entities, info)
            loss = losses[0] + losses[1]
            _require_finite(loss, "loss", batches=[batch], where=where)
            self.accelerator.backward(loss)
            sums = [s + one.item() for s, one in zip(sums, losses, strict=True)]
        self._vectors.backward()
        self._update(number, batches, where)
        return dict(zip(("entity", "span"), self._over_processes(sums), strict=True))

    def rate(self, step: int) -> float:
        """Learning rate at a step, relative to its peak: linear warm-up and decay, above 0 at every step."""
        warm = max(1, round(self.settings.warmup * self.total_steps))
        return min((step + 1) / warm, (self.total_steps - step) / max(1, self.total_steps - warm + 1), 1.0)

    @torch.no_grad()
    def embed(self, batch: Batch) -> Tensor:
        """Mention vectors of a batch by the current model, without dropout. The model is in training mode afterwards."""
        self.model.eval()
        on_device = batch.to(self.accelerator.device)
        with autocast(self.accelerator):
            hidden = self.model.encode_context(on_device.ids, on_device.mask)
        vectors = self.model.embed_mentions(hidden.float(), on_device.text, on_device.start, on_device.end)
        self.model.train()
        return vectors

    def state(self) -> dict[str, Any]:
        """State of weights and optimizer for a checkpoint."""
        return learning_state(self.model, self.optimizer, self.accelerator)

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore a state."""
        load_learning_state(state, self.model, self.optimizer, self.accelerator)

    def _agree(self, batches: Sequence[Batch]) -> GlobalBatchInfo:
        counts = [sum(objective.count(p) for p in batches) for objective in self.objectives]
        spans = sum(span_count(p.mask, self.model.config.max_mention_length) for p in batches)
        named = torch.cat([p.rows for p in batches]).unique() if batches else torch.empty(0, dtype=torch.long)
        named, needed = named[named != NOT_IN_CATALOGUE], needed_rows(batches)
        if self.accelerator.num_processes > 1:
            all_counts, all_named, all_needed = zip(*gather_object([([*counts, spans], named, needed)]), strict=True)
            *counts, spans = (sum(column) for column in zip(*all_counts, strict=True))
            named, needed = torch.cat(all_named).unique(), torch.cat(all_needed).unique()
        return GlobalBatchInfo(tuple(counts), spans, named, needed)

    def _open(self, info: GlobalBatchInfo) -> Entities:
        device = self.accelerator.device
        if all(objective.needs_catalogue for objective in self.objectives):  # no other vectors are needed
            none = torch.empty(0, dtype=torch.long, device=device)
            return Entities(none, torch.empty(0, device=device), none, self._catalogue)
        batch = torch.searchsorted(info.needed, info.named)
        return Entities(info.needed.to(device), self._vectors.open(info.needed), batch.to(device), self._catalogue)

    def _losses(self, batch: Batch, entities: Entities, info: GlobalBatchInfo) -> tuple[Tensor, Tensor]:
        with autocast(self.accelerator):
            hidden = self.model.encode_context(batch.ids, batch.mask)
        scores = self.model.score_spans(hidden.float(), batch.mask)
        mentions = self.model.embed_mentions(hidden.float(), batch.text, batch.start, batch.end)
        entity = mentions.sum() * 0.0
        if len(info.named):
            losses = [o.loss(mentions, batch, entities, n) for o, n in zip(self.objectives, info.totals, strict=True)]
            entity = losses[0] if len(losses) == 1 else torch.stack(losses).sum()
        return entity, span_loss(scores, batch, info.spans)

    def _update(self, number: int, batches: Sequence[Batch], where: str) -> None:
        if self.accelerator.num_processes > 1:
            self._sum_gradients()
        norm = self.accelerator.clip_grad_norm_(self.trained, self.settings.max_grad_norm)
        if self.accelerator.scaler is None:  # a scaler skips such steps itself, and lowers its scale
            _require_finite(norm, "gradient", batches=batches, where=where)
        for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * self.rate(number)
        self.optimizer.step()

    def _sum_gradients(self) -> None:
        """Sum the gradients of all processes. Not their mean: the loss of each is divided by the totals of all."""
        touched = torch.tensor([float(p.grad is not None) for p in self.trained], device=self.accelerator.device)
        touched = self.accelerator.reduce(touched, "sum")
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in self.trained])
        flat = self.accelerator.reduce(flat, "sum")
        gradients = flat.split([p.numel() for p in self.trained])
        for parameter, gradient, count in zip(self.trained, gradients, touched.tolist(), strict=True):
            parameter.grad = gradient.view_as(parameter) if count else None  # as in a run with one process

    def _over_processes(self, sums: Sequence[float]) -> list[float]:
        if self.accelerator.num_processes == 1:
            return list(sums)
        summed: Tensor = self.accelerator.reduce(torch.tensor(sums, device=self.accelerator.device), "sum")
        return summed.tolist()


def parameter_groups(model: BiEncoder, settings: TrainSettings) -> list[dict[str, Any]]:
    """Trained weights by learning rate and weight decay: encoders and heads have own rates, biases and norms no decay."""
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            encoder = name.startswith(("context_encoder.", "candidate_encoder."))
            rate = settings.learning_rate if encoder else settings.head_learning_rate
            decay = settings.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": p, "lr": rate, "weight_decay": decay} for (rate, decay), p in groups.items()]


def freeze_layers(encoder: nn.Module, layers: str) -> None:
    """Freeze all but the upper layers of an encoder, see `TOP_LAYERS`; ``all`` freezes nothing.

    Raises:
        SettingsError: the names of the encoder's parameters do not number the layers as in BERT.
    """
    if layers == "all":
        return
    numbered = [(n, p, _layer(n)) for n, p in encoder.named_parameters()]
    count = max((layer + 1 for _, _, layer in numbered if layer is not None), default=0)
    if not count:
        raise SettingsError(f"train_layers is {layers!r}, but this encoder does not number its layers; take all")
    upper = TOP_LAYERS[layers]
    first = 0 if upper is None else count - upper
    for _, parameter, layer in numbered:
        if layer is None or layer < first:
            parameter.requires_grad = False


def _layer(name: str) -> int | None:
    words = name.split(".")
    numbers = (after for word, after in pairwise(words) if word == "layer" and after.isdigit())
    return next(map(int, numbers), None)


def _require_finite(value: Tensor | float, what: str, *, batches: Sequence[Batch], where: str) -> None:
    number = value.item() if isinstance(value, Tensor) else value
    if not math.isfinite(number):
        texts = ", ".join(repr(s) for p in batches for s in p.samples)
        raise SettingsError(
            f"the {what} is {number} at {where}, with the texts {texts}; lower --learning-rate, or look at these texts"
        )
