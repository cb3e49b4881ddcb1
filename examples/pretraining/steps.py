"""One step of pre-training: mean loss of the masked words plus mean loss of the masked entities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from transformers import LukeForMaskedLM

from blink.errors import SettingsError
from blink.runs.seeds import step_seed
from examples.luke.features import Feature, collate
from examples.luke.settings import TuneSettings
from examples.luke.steps import Stepper
from examples.pretraining.masking import Masked, Masker

MEASURES = {"word": ("loss", "accuracy"), "entity": ("loss", "accuracy"), "page": ("loss",)}
"""Predictions (masked words, masked entities, the page's entity from the state of ``<s>``) and their measures."""
EVALUATION_SEED = 20_181_220


@dataclass(frozen=True)
class Sums:
    """Sums over a batch for one kind of prediction.

    Attributes:
        loss: sum of the losses; scalar.
        correct: number of correct predictions.
    """

    loss: Tensor
    correct: int = 0


def count(masked: Sequence[Masked], *, pages: bool) -> dict[str, int]:
    """Number of predictions of each kind in windows."""
    return {
        "word": sum(len(m.words) for m in masked),
        "entity": sum(len(m.entities) for m in masked),
        "page": sum(m.feature.note >= 0 for m in masked) if pages else 0,
    }


def predict(model: LukeForMaskedLM, masked: Sequence[Masked], pad: int, longest_mention: int) -> dict[str, Sums]:
    """Predict the masked words and entities of a batch.

    Only masked positions are decoded: with 500,000 entities, the decoder takes most of the time.

    Args:
        model: with plain attention; with a module ``cls_entity``, the entity of the page is predicted too.
        masked: n windows.
        pad: id of the token that fills up.
        longest_mention: maximum tokens of an entity that have a position.

    Returns:
        sums by kind.
    """
    device = model.device
    inputs = {k: v.to(device) for k, v in collate([m.feature for m in masked], pad, longest_mention).items()}
    states = model.luke(**inputs)
    sums: dict[str, Sums] = {}
    picked, labels = _select(states.last_hidden_state, [m.word_positions for m in masked], [m.words for m in masked])
    sums["word"] = _classified(model.lm_head(picked), labels)
    if states.entity_last_hidden_state is not None:
        positions, entities = [m.entity_positions for m in masked], [m.entities for m in masked]
        picked, labels = _select(states.entity_last_hidden_state, positions, entities)
        sums["entity"] = _classified(model.entity_predictions(picked), labels)
    cls_entity: nn.Linear | None = getattr(model, "cls_entity", None)
    if cls_entity is not None:
        pages = torch.tensor([m.feature.note for m in masked], device=device)
        table_rows = model.luke.entity_embeddings.entity_embeddings.weight.detach()[pages.clamp(min=0)]
        guess = cls_entity(states.last_hidden_state[:, 0]).float()
        errors = mse_loss(guess, table_rows, reduction="none").mean(1)
        sums["page"] = Sums((errors * (pages >= 0)).sum())
    return sums


def _select(states: Tensor, positions: Sequence[Any], labels: Sequence[Any]) -> tuple[Tensor, Tensor]:
    rows = torch.from_numpy(np.repeat(np.arange(len(positions)), [len(p) for p in positions])).to(states.device)
    columns = torch.from_numpy(np.concatenate(positions)).to(states.device)
    return states[rows, columns], torch.from_numpy(np.concatenate(labels)).to(states.device)


def _classified(logits: Tensor, labels: Tensor) -> Sums:
    logits = logits.float()
    return Sums(cross_entropy(logits, labels, reduction="sum"), int((logits.argmax(-1) == labels).sum()))


class PretrainStepper(Stepper):
    """Takes the steps of pre-training.

    Args:
        model: what learns, on its device.
        masker: masks words and entities, reproducibly by seed, step and window.
        longest_mention: maximum tokens of an entity that have a position.
        pad: id of the token that fills up.
        settings: of the run.
        accelerator: device, number format and processes.
        total: steps of the run.

    Attributes:
        last: mean loss of each kind and accuracies of the last step.
        pages: whether the entity of the page is predicted too.
    """

    model: LukeForMaskedLM

    def __init__(
        self,
        model: LukeForMaskedLM,
        masker: Masker,
        longest_mention: int,
        pad: int,
        settings: TuneSettings,
        accelerator: Accelerator,
        total: int,
    ) -> None:
        # This class computes the loss itself and needs no task.
        super().__init__(model, cast(Any, None), cast(Any, None), settings, accelerator, total)
        self.masker, self.longest_mention, self.pad = masker, longest_mention, pad
        self.pages = hasattr(model, "cls_entity")
        self.last: dict[str, float] = {}

    def step(self, number: int, features: Sequence[Feature]) -> float:
        """Take step ``number`` (from 0) on this process's windows, batch after batch.

        Sums of a batch are divided by the predictions of the whole step in all processes, per kind. So the gradient is
        that of mean loss of words plus mean loss of entities, however the step is split.

        Returns:
            the loss of the step, over all processes.

        Raises:
            SettingsError: loss or gradient is not finite; the message names step and windows.
        """
        process, size, seed = self.accelerator.process_index, self.settings.train_batch_size, self.settings.seed
        torch.manual_seed(step_seed(seed, number, process))
        masked = [self.masker.mask(f, np.random.default_rng((seed, number, f.example))) for f in features]
        totals = {k: self._over_processes(n) for k, n in count(masked, pages=self.pages).items()}
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        losses = [self._predict_and_learn(masked[i : i + size], totals, number) for i in range(0, len(masked), size)]
        self._update(number, features)
        # Names follow from the totals of all processes: one of them may have no window, or none with an entity.
        names = [f"{kind}_{what}" for kind, total in totals.items() if total for what in MEASURES[kind]]
        self.last = {name: self._over_processes(sum(micro_batch.get(name, 0.0) for micro_batch in losses)) for name in names}
        return sum(v for k, v in self.last.items() if k.endswith("_loss"))

    def _predict_and_learn(self, masked: Sequence[Masked], totals: dict[str, float], number: int) -> dict[str, float]:
        with self.accelerator.autocast():
            sums = predict(self.model, masked, self.pad, self.longest_mention)
        losses = {kind: of_kind.loss / max(totals[kind], 1) for kind, of_kind in sums.items()}
        loss = torch.stack(list(losses.values())).sum()
        if not math.isfinite(loss.item()):
            names = ", ".join(m.feature.where for m in masked[:4])
            raise SettingsError(f"the loss is {loss.item()} at step {number + 1}, with {names}; lower --learning-rate")
        self.accelerator.backward(loss)
        shares = {f"{kind}_accuracy": of_kind.correct / max(totals[kind], 1) for kind, of_kind in sums.items()}
        return {**{f"{kind}_loss": value.item() for kind, value in losses.items()}, **shares}


@torch.no_grad()
def evaluate(stepper: PretrainStepper, features: Sequence[Feature], size: int) -> dict[str, float]:
    """Mean losses and accuracies on windows, for the kinds with predictions.

    The masks are the same each time, whatever the batch size.
    """
    model, accelerator = stepper.model, stepper.accelerator
    model.eval()
    indices = range(accelerator.process_index, len(features), accelerator.num_processes)
    rows: list[dict[str, float]] = []
    for start in range(0, len(indices), size):
        batch = [features[i] for i in indices[start : start + size]]
        masked = [stepper.masker.mask(f, np.random.default_rng((EVALUATION_SEED, f.example))) for f in batch]
        with accelerator.autocast():
            sums = predict(model, masked, stepper.pad, stepper.longest_mention)
        counts = count(masked, pages=stepper.pages)
        for kind, of_kind in sums.items():
            rows.append({f"{kind}_loss": of_kind.loss.item(), f"{kind}_accuracy": of_kind.correct, kind: counts[kind]})
    if accelerator.num_processes > 1:
        rows = gather_object(rows)
    total = {key: sum(row.get(key, 0.0) for row in rows) for row in rows for key in row}
    kinds = [k for k in MEASURES if total.get(k)]
    return {f"{k}_{name}": total[f"{k}_{name}"] / total[k] for k in kinds for name in MEASURES[k]}
