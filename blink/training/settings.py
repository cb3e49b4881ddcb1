"""Options of training, from which the flags of the commands and the stored JSON are derived."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from blink.errors import SettingsError
from blink.runs.fields import AnyShare, Decay, Natural, Positive, Rate, Seed, Share
from blink.runs.settings import Settings

SYNTHETIC_SOURCES = (
    "described", "enumeration", "lookalike", "notname",
    "passage", "plain", "pseudo", "related", "slotted", "sport", "swapped",
)  # fmt: skip
"""Sources of synthetic texts, mixed with ``questions``; see `blink.training.data.synthetic`."""

OBJECTIVE_NAMES = ("catalogue", "in_batch", "hard_negatives", "hard_negatives_bce")
"""Entity losses; see `blink.training.step.objectives`."""

MUTABLE_ON_RESUME = frozenset(("save_steps", "log_steps", "patience", "tracker", "keep_epochs", "first_epoch"))
"""Settings that may change when a run is resumed, since the weights do not depend on them."""


def parse_mix(text: str) -> dict[str, float]:
    """Parse a mixture such as ``questions=1,related=0.5``.

    Raises:
        SettingsError: a source is unknown or a share is not a finite number of at least 0.
    """
    mix: dict[str, float] = {}
    for item in filter(None, text.split(",")):
        name, _, share = item.partition("=")
        if name not in ("questions", *SYNTHETIC_SOURCES):
            raise SettingsError(f"training source is {name!r}; allowed are questions, {', '.join(SYNTHETIC_SOURCES)}")
        try:
            mix[name] = float(share)
        except ValueError:
            mix[name] = -1.0
        if not 0 <= mix[name] < math.inf:
            raise SettingsError(f"the share of {name} is {share!r}; give a number of texts per question, such as {name}=0.5")
    return mix


@dataclass(frozen=True)
class Fold:
    """One of several folds of equal size; the id of a text decides its fold.

    Attributes:
        index: of the fold, from 0.
        count: number of folds.
    """

    index: int
    count: int

    def __contains__(self, name: str) -> bool:
        return zlib.crc32(name.encode()) % self.count == self.index


def parse_fold(text: str) -> Fold | None:
    """Parse a fold such as ``0/2``; None for an empty text.

    Raises:
        SettingsError: it is not a fold of at least two.
    """
    index, _, count = text.partition("/")
    if not text:
        return None
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count) and int(count) >= 2):
        raise SettingsError(f"leave_out is {text!r}; it must be a part of several, counted from 0, such as 0/2")
    return Fold(int(index), int(count))


def parse_objective(text: str) -> tuple[str, ...]:
    """Parse a sum of entity losses such as ``in_batch+hard_negatives``.

    Raises:
        SettingsError: a loss is unknown, or named twice.
    """
    names = tuple(name.strip() for name in text.split("+"))
    wrong = next((n for n in names if n not in OBJECTIVE_NAMES), None)
    if wrong is not None:
        allowed = f"{', '.join(OBJECTIVE_NAMES)}, or a sum such as in_batch+hard_negatives"
        raise SettingsError(f"objective is {wrong!r}; allowed are {allowed}")
    if len({n.removesuffix("_bce") for n in names}) < len(names):
        raise SettingsError(f"objective is {text!r}; name each loss once, and mined negatives in one form")
    return names


def _readable(read: Callable[[str], Any]) -> AfterValidator:
    """A constraint on text: ``read`` parses it without an error."""

    def check(text: str) -> str:
        read(text)
        return text

    return AfterValidator(check)


class TrainSettings(Settings):
    """Every option of training."""

    epochs: Positive = 20
    """Passes over the mixture."""
    batch_size: Positive = 64
    """Texts per step, over all processes and micro-batches."""
    accumulation: Positive = 1
    """Micro-batches that a process splits its share of a batch into, to save memory; the step is the same for any number, but
    for the draws of dropout."""
    learning_rate: Rate = 1e-3
    """Peak rate of the encoders (or their adapters)."""
    head_learning_rate: Rate = 1e-3
    """Peak rate of the heads and the scale, which start untrained."""
    weight_decay: Decay = 0.01
    """Decoupled decay of matrices; biases and norms have none."""
    warmup: Share = 0.1
    """Share of the steps with a rising rate, which then falls linearly to 0."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradients are clipped to this norm."""
    dropout: Share | None = None
    """Probability in the encoder.  [default: the encoder's own]"""
    mix: Annotated[str, _readable(parse_mix)] = "questions=1"
    """Texts per question of each source, such as questions=1,related=0.5."""
    damage: Share = 0.15
    """Share of the names in synthetic texts that are misspelt, shortened or put in the plural."""
    recase: Share = 0.0
    """Share of the texts with capital letters that an epoch reads in another case, mostly lower."""
    join: Share = 0.0
    """Share of the texts that an epoch joins with others, up to the context length, so that long texts are read as well as
    short ones."""
    leave_out: Annotated[str, _readable(parse_fold)] = ""
    """Fold I of N of the questions, as I/N, that is held out of training: a reranker learns from it (blink rank)."""
    distribute: bool = False
    """Each epoch sees another shard of the questions, for millions of them; ignored, with a warning, where an epoch would have
    less than one batch."""
    in_order: bool = False
    """Keep the texts in the order of their files, rather than in a new order in each epoch."""
    seed: Seed = 52313
    """Of weights, order, dropout and synthetic texts."""
    objective: Annotated[str, _readable(parse_objective)] = "catalogue"
    """Entity loss: catalogue (exact softmax over all entities, which must be frozen), in_batch (the other entities of the
    batch), hard_negatives (mined from the index), hard_negatives_bce (as the original's --adversarial_training), or a sum such
    as in_batch+hard_negatives."""
    entity_tower: Literal["frozen", "adapters", "trained"] = "frozen"
    """What of the entity encoder learns: frozen (nothing), adapters or trained (all of it)."""
    train_layers: Literal["all", "all_encoder_layers", "top4_layers", "top_layer", "additional_layers"] = "all"
    """What of the context encoder learns: all, all_encoder_layers (no embeddings), top4_layers, top_layer or additional_layers
    (heads only). Heads learn always."""
    negatives: Natural = 10
    """Mined entities per mention."""
    form_negatives: Natural = 4
    """Most entities per mention that have its name among their aliases, in addition to the mined ones."""
    refresh_steps: Positive = 100
    """Steps between two minings of negatives, each for the batches up to the next."""
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    """Precision of the encoders: auto (bf16 where the hardware has it, else fp32; a resumed run keeps its own), bf16, fp16
    (needs a GPU) or fp32. The objective catalogue compares with entity vectors in bfloat16 for bf16 and in float32, twice the
    memory, for the others."""
    gradient_checkpointing: bool = False
    """Compute the layers again in the backward pass instead of keeping them: slower, less memory."""
    eval_steps: Natural = 0
    """Steps between two validations; 0 validates after each epoch only."""
    save_steps: Natural = 500
    """Steps between two checkpoints, of which there is one at each validation too; 0 for those only."""
    log_steps: Positive = 20
    """Steps between two rows of losses in trace.jsonl."""
    patience: Natural = 0
    """Stop after so many validations without a better one; 0 never does."""
    keep_epochs: bool = False
    """Keep the model of each epoch, in epoch_0, epoch_1 and so on, in addition to the best and the last."""
    first_epoch: Natural = 0
    """Number of the first of these: the one after the last epoch of the run whose model is trained further."""
    tracker: Literal["none", "tensorboard", "wandb"] = "none"
    """Where numbers go besides trace.jsonl: none, tensorboard, or wandb (pip install tensorboard, or wandb)."""

    @model_validator(mode="after")
    def _require_frozen_entities(self) -> TrainSettings:
        if self.entity_tower != "frozen" and "catalogue" in parse_objective(self.objective):
            raise SettingsError(
                f"the objective catalogue compares with entity vectors that stay as they are, and entity_tower is "
                f"{self.entity_tower!r}; take in_batch, hard_negatives or both, or leave the entity tower frozen"
            )
        return self


class PriorTuneSettings(Settings):
    """Every option of learning how a prior's vectors agree with mentions."""

    width: Positive = 8
    """Dimension that mention and graph vectors are projected to."""
    epochs: Positive = 20
    """Passes over the mentions."""
    batch_size: Positive = 128
    """Mentions per step."""
    learning_rate: Rate = 3e-3
    """Constant rate."""
    weight_decay: Decay = 0.1
    """Decoupled decay of the projections."""
    seed: Seed = 52313
    """Of projections and order."""


class RankSettings(Settings):
    """Every option of fitting a reranker."""

    epochs: Positive = 15
    """Passes over the spans."""
    batch_size: Positive = 512
    """Spans per step."""
    learning_rate: Rate = 3e-3
    """Peak rate."""
    weight_decay: Decay = 1e-3
    """Decoupled decay of the weights."""
    hidden: Positive = 48
    """Width of each of the two hidden layers."""
    members: Positive = 3
    """Size of the ensemble: networks fitted from different initial weights, whose scores are averaged."""
    dropout: Share = 0.1
    """Probability in the hidden layers."""
    absent: Share = 0.1
    """Share of the entities of each knowledge base that are removed from it before the texts are linked, so that the reranker
    learns from mentions of entities that are not in the knowledge base."""
    recase: AnyShare = 0.0
    """Share of the texts with capital letters that are spelt in lower, upper or title case."""
    typed: AnyShare = 0.0
    """Share of the labelled texts that are read once more as people type them: in lower case, some names misspelt."""
    small: AnyShare = 0.0
    """Share of the texts that are linked once more over small catalogues of their entities and a few hundred to thousand
    others."""
    contrary: AnyShare = 0.0
    """Share of the labelled texts, and of synthetic texts about entities of one name, that are linked once more over catalogues
    in which other entities have the aliases by which the texts call theirs, so that context counts more than an alias."""
    left_out: Share = 0.05
    """Share of spans that lose a whole group of features, so that groups can be switched off later."""
    min_mention_log_prob: Annotated[float, Field(allow_inf_nan=False)] = -5.0
    """Least log probability of a span to be a mention, for the spans that the reranker is fitted on and applied to."""
    seed: Seed = 52313
    """Of weights, order and everything drawn."""
