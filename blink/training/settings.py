"""Every option of training, once: the command's flags, the stored JSON and the trainer all come from here."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from blink.errors import SettingsError

MADE = ("described", "plain", "pseudo", "related", "slotted", "swapped")
"""Sources of made texts, beside ``questions``; see `blink.training.synthetic`."""

OBJECTIVE_NAMES = ("catalogue", "in_batch", "hard_negatives", "hard_negatives_bce")
"""Entity losses; see `blink.training.objectives`."""

ENTITY_TOWERS = ("frozen", "adapters", "trained")
TRAINED_LAYERS = ("all", "all_encoder_layers", "top4_layers", "top_layer", "additional_layers")
PRECISIONS = ("bf16", "fp16", "fp32")
TRACKERS = ("none", "tensorboard")

FREE_TO_CHANGE = frozenset(("save_steps", "log_steps", "patience", "tracker", "keep_epochs", "first_epoch"))
"""What may differ between a run and its continuation: it decides nothing about the weights of a step."""


@dataclass(frozen=True)
class TrainSettings:
    """Every option of training.

    Attributes:
        epochs: passes over the mixture.
        batch_size: texts per step, over all processes and parts.
        accumulation: parts that a process computes its share of a batch in, one after the other, to save memory; the step
            is the same for any number, but for what dropout draws.
        learning_rate: peak rate of the encoders (or their adapters).
        head_learning_rate: peak rate of the heads and the scale, which begin untrained.
        weight_decay: decoupled decay of matrices; biases and norms have none.
        warmup: share of the steps with a rising rate; afterwards it falls in a line to 0.
        max_grad_norm: gradients are clipped to this norm.
        dropout: probability in the encoder, None keeps the encoder's own.
        mix: texts per question of each source, see `parse_mix`.
        damage: share of the names in made texts that are misspelt, shortened or put in the plural.
        leave_out: part I of N of the questions, as I/N, that is not trained on: a ranker learns from it (blink rank).
        distribute: each epoch sees another part of the questions, as suits millions of them; not done, with a warning, where
            an epoch would have less than one batch.
        in_order: take the texts of every epoch as they stand in their files, rather than in a new order each time.
        seed: of weights, order, dropout and made texts.
        objective: entity loss: catalogue (exact softmax over all entities, which must be frozen), in_batch (the other
            entities of the batch), hard_negatives (mined from the index), hard_negatives_bce (as the original's
            --adversarial_training), or a sum such as in_batch+hard_negatives.
        entity_tower: frozen, adapters or trained: what of the encoder of entities learns.
        train_layers: what of the context encoder learns: all, all_encoder_layers (no embeddings), top4_layers, top_layer or
            additional_layers (heads only). Heads learn always.
        negatives: mined entities per mention.
        form_negatives: most entities per mention that bear its name, beside the mined ones.
        refresh_steps: steps between two minings of negatives, each for the batches up to the next.
        precision: number format of the encoders: bf16, fp16 (needs a GPU) or fp32. The objective catalogue compares with
            entity vectors in bfloat16 for bf16 and in float32, twice the memory, for the others.
        gradient_checkpointing: compute the layers again on the way back instead of keeping them: slower, less memory.
        eval_steps: steps between two validations; 0 validates after each epoch only.
        save_steps: steps between two checkpoints, of which there is one at each validation too; 0 for those only.
        log_steps: steps between two rows of losses in trace.jsonl.
        patience: stop after so many validations without a better one; 0 never does.
        keep_epochs: keep the model of each epoch, in epoch_0, epoch_1 and so on, beside the best and the last.
        first_epoch: number of the first of these: that behind the epoch of another run whose model is trained further.
        tracker: none, or tensorboard (pip install tensorboard).
    """

    epochs: int = 20
    batch_size: int = 64
    accumulation: int = 1
    learning_rate: float = 1e-3
    head_learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup: float = 0.1
    max_grad_norm: float = 1.0
    dropout: float | None = None
    mix: str = "questions=1"
    damage: float = 0.15
    leave_out: str = ""
    distribute: bool = False
    in_order: bool = False
    seed: int = 52313
    objective: str = "catalogue"
    entity_tower: str = "frozen"
    train_layers: str = "all"
    negatives: int = 10
    form_negatives: int = 4
    refresh_steps: int = 100
    precision: str = "bf16"
    gradient_checkpointing: bool = False
    eval_steps: int = 0
    save_steps: int = 500
    log_steps: int = 20
    patience: int = 0
    keep_epochs: bool = False
    first_epoch: int = 0
    tracker: str = "none"

    def __post_init__(self) -> None:
        parse_mix(self.mix)
        parse_fold(self.leave_out)
        objectives = parse_objective(self.objective)
        _require_ranges(self)
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise SettingsError(f"{name} is {getattr(self, name)!r}; allowed are {', '.join(allowed)}")
        if self.entity_tower != "frozen" and "catalogue" in objectives:
            raise SettingsError(
                f"the objective catalogue compares with entity vectors that stay as they are, and entity_tower is "
                f"{self.entity_tower!r}; take in_batch, hard_negatives or both, or leave the entity tower frozen"
            )


_CHOICES = {"entity_tower": ENTITY_TOWERS, "train_layers": TRAINED_LAYERS, "precision": PRECISIONS, "tracker": TRACKERS}

_SEEDS = 1 << 32
"""Seeds are below it, so that what is made of them stays within the 64 bits that generators take."""
SEED_STRIDE = 1_000_003
"""Between the seeds of one epoch or step and the next: runs whose seeds are neighbours draw nothing alike."""


@dataclass(frozen=True)
class _Range:
    """What a number may be, and in words."""

    fits: Callable[[float], bool]
    allowed: str


def _at_least(least: int) -> _Range:
    return _Range(lambda number: number >= least, f"at least {least}")


_SHARE = _Range(lambda share: 0 <= share < 1, "a share from 0 to below 1")
_RATE = _Range(lambda rate: 0 < rate < math.inf, "above 0 and finite")
_RANGES = {
    **dict.fromkeys(("epochs", "batch_size", "accumulation", "refresh_steps", "log_steps"), _at_least(1)),
    **dict.fromkeys(("hidden", "members", "width"), _at_least(1)),
    **dict.fromkeys(("negatives", "form_negatives", "eval_steps", "save_steps", "patience", "first_epoch"), _at_least(0)),
    **dict.fromkeys(("warmup", "damage", "dropout", "absent", "left_out"), _SHARE),
    **dict.fromkeys(("learning_rate", "head_learning_rate"), _RATE),
    "weight_decay": _Range(lambda decay: 0 <= decay < math.inf, "at least 0 and finite"),
    "max_grad_norm": _Range(lambda norm: norm > 0, "above 0"),  # infinite: nothing is clipped
    "floor": _Range(math.isfinite, "a finite number, such as -5"),
    "seed": _Range(lambda seed: 0 <= seed < _SEEDS, f"from 0 to {_SEEDS - 1}"),
}
"""By name of a setting, which means the same wherever it stands."""


def _require_ranges(settings: TrainSettings | RankSettings | WeighSettings) -> None:
    for name, value in vars(settings).items():
        if name in _RANGES and value is not None and not _RANGES[name].fits(value):
            raise SettingsError(f"{name} is {value}; it must be {_RANGES[name].allowed}")


def parse_mix(text: str) -> dict[str, float]:
    """Read shares such as ``questions=1,related=0.5``.

    Raises:
        SettingsError: a source is unknown or a share is not a finite number of at least 0.
    """
    mix: dict[str, float] = {}
    for item in filter(None, text.split(",")):
        name, _, share = item.partition("=")
        if name not in ("questions", *MADE):
            raise SettingsError(f"training source is {name!r}; allowed are questions, {', '.join(MADE)}")
        try:
            mix[name] = float(share)
        except ValueError:
            mix[name] = -1.0
        if not 0 <= mix[name] < math.inf:
            raise SettingsError(f"the share of {name} is {share!r}; give a number of texts per question, such as {name}=0.5")
    return mix


@dataclass(frozen=True)
class Fold:
    """One of several equal parts of a set, which part a text belongs to being decided by its id."""

    part: int
    parts: int

    def __contains__(self, name: str) -> bool:
        return zlib.crc32(name.encode()) % self.parts == self.part


def parse_fold(text: str) -> Fold | None:
    """Read ``0/2``; of nothing, None.

    Raises:
        SettingsError: it is no part of several.
    """
    part, _, parts = text.partition("/")
    if not text:
        return None
    if not (part.isdecimal() and parts.isdecimal() and int(part) < int(parts) and int(parts) >= 2):
        raise SettingsError(f"leave_out is {text!r}; it must be a part of several, counted from 0, such as 0/2")
    return Fold(int(part), int(parts))


def parse_objective(text: str) -> tuple[str, ...]:
    """Read a sum of entity losses such as ``in_batch+hard_negatives``.

    Raises:
        SettingsError: one is unknown, or stands there twice.
    """
    names = tuple(part.strip() for part in text.split("+"))
    wrong = next((n for n in names if n not in OBJECTIVE_NAMES), None)
    if wrong is not None:
        allowed = f"{', '.join(OBJECTIVE_NAMES)}, or a sum such as in_batch+hard_negatives"
        raise SettingsError(f"objective is {wrong!r}; allowed are {allowed}")
    if len({n.removesuffix("_bce") for n in names}) < len(names):
        raise SettingsError(f"objective is {text!r}; name each loss once, and mined negatives in one form")
    return names


@dataclass(frozen=True)
class WeighSettings:
    """Every option of learning how a prior's vectors agree with mentions.

    Attributes:
        width: numbers that a mention and a graph vector are projected to.
        epochs: passes over the mentions.
        batch_size: mentions per step.
        learning_rate: of all steps.
        weight_decay: decoupled decay of the projections.
        seed: of projections and order.
    """

    width: int = 8
    epochs: int = 20
    batch_size: int = 128
    learning_rate: float = 3e-3
    weight_decay: float = 0.1
    seed: int = 52313

    def __post_init__(self) -> None:
        _require_ranges(self)


@dataclass(frozen=True)
class RankSettings:
    """Every option of fitting a ranker.

    Attributes:
        epochs: passes over the spans.
        batch_size: spans per step.
        learning_rate: peak rate.
        weight_decay: decoupled decay of the weights.
        hidden: width of each of the two hidden layers.
        members: networks that are fitted from different beginnings; their scores are averaged.
        dropout: share of hidden numbers that are left out.
        absent: share of gold entities that are taken out of the candidates, so that the ranker learns to say that a
            mention names nothing in the knowledge base.
        left_out: share of spans that lose a whole group of features, so that groups can be switched off later.
        floor: spans whose log sigmoid mention score is not above it are left to themselves.
        seed: of weights, order and everything drawn.
    """

    epochs: int = 15
    batch_size: int = 512
    learning_rate: float = 3e-3
    weight_decay: float = 1e-3
    hidden: int = 48
    members: int = 3
    dropout: float = 0.1
    absent: float = 0.05
    left_out: float = 0.05
    floor: float = -5.0
    seed: int = 52313

    def __post_init__(self) -> None:
        _require_ranges(self)
