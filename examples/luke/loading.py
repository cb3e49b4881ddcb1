"""Loads pre-trained models and fine-tuned checkpoints."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoTokenizer, LukeConfig, LukeModel, LukeTokenizer, PreTrainedModel

from blink.errors import BlinkError, CheckpointError, MissingFileError, SettingsError, first_line
from blink.input_files import require_file
from blink.model.pretrained import quiet_transformers
from blink.replacing import complete
from examples.luke.archive import is_archive, read_state
from examples.luke.convert import (
    EMBEDDED,
    ENTITY_TABLE,
    FIRST,
    MASK,
    MASK2,
    PAD,
    SECOND,
    SPECIAL_ENTITIES,
    UNKNOWN,
    converted,
    copy_queries,
    is_further_query,
)
from examples.luke.tokenizer import PlainTokenizer

THIRD = "[ENTITY]"
"""A third marker, missing in transformers' tokenizer: its id is in the model's settings."""
MARKED_LIKE = {THIRD: "*"}
POSITIONS_UNUSED = 2
"""Positions start after the padding id, 1."""
POOLER = ("pooler.dense.weight", "pooler.dense.bias")
"""Weights that no task uses and only some models have."""
WEIGHTS_FILES = ("model.safetensors", "pytorch_model.bin", "model.safetensors.index.json", "pytorch_model.bin.index.json")

REMEDY = "give LUKE's archive (.tar.gz), a folder of transformers, or a name"

HeadClass = type[PreTrainedModel]


@dataclass(frozen=True)
class Vocabulary:
    """Ids and limits for features.

    Attributes:
        tokenizer: converts text to ids.
        entities: id of each entity, by title.
        markers: id of each marker, by name.
        labels: names of the classes, in order of their ids.
        max_mention_length: maximum tokens of an entity that have a position.
        max_length: maximum tokens of an input.
    """

    tokenizer: PlainTokenizer
    entities: Mapping[str, int]
    markers: Mapping[str, int]
    labels: tuple[str, ...]
    max_mention_length: int
    max_length: int

    def entity(self, title: str) -> int | None:
        """Row of an entity, None for an unknown one."""
        return self.entities.get(title)


@dataclass(frozen=True)
class TunedModel:
    """A model with a task's head, and its tokenizer."""

    model: PreTrainedModel
    tokenizer: Any

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes of the head."""
        names: Any = self.model.config.id2label
        return tuple(names[i] for i in sorted(names))

    def vocabulary(self) -> Vocabulary:
        """Ids and limits for its features."""
        config, tokenizer = self.model.config, self.tokenizer
        markers = {m: tokenizer.convert_tokens_to_ids(m) for m in (FIRST, SECOND)} | getattr(config, "extra_markers", {})
        return Vocabulary(
            tokenizer=PlainTokenizer(tokenizer),
            entities=tokenizer.entity_vocab,
            markers=markers,
            labels=self.labels,
            max_mention_length=tokenizer.max_mention_length,
            max_length=config.max_position_embeddings - POSITIONS_UNUSED,
        )


@dataclass(frozen=True)
class Base:
    """A pre-trained model without a head.

    Attributes:
        config: its settings.
        state: weights of LukeModel, with those of entity-aware attention.
        tokenizer: its tokenizer, with the entity vocabulary.
    """

    config: LukeConfig
    state: dict[str, Tensor]
    tokenizer: Any

    def with_head(
        self, head: HeadClass, labels: Sequence[str], *, all_entities: bool, markers: Sequence[str] = (), **settings: Any
    ) -> TunedModel:
        """A model with these weights and a new head, drawn from torch's generator.

        Args:
            head: class of the model.
            labels: names of the classes.
            all_entities: keep the full entity table instead of its special rows only.
            markers: markers of `MARKED_LIKE` that the task adds.
            settings: for the model's configuration.
        """
        state, tokenizer = dict(self.state), self.tokenizer
        state[_TABLE], ids = _entity_rows(state[_TABLE], tokenizer.entity_vocab, all_entities)
        tokenizer = with_entities(tokenizer, ids)
        extra = {}
        for marker in markers:
            like = PlainTokenizer(tokenizer).encode(MARKED_LIKE[marker], space=False)
            extra[marker] = len(state[_WORDS])
            state[_WORDS] = torch.cat([state[_WORDS], state[_WORDS][like[-1]][None]])
        config = copy.deepcopy(self.config)
        config.vocab_size, config.entity_vocab_size = len(state[_WORDS]), len(state[_TABLE])
        config.id2label, config.label2id = dict(enumerate(labels)), {name: i for i, name in enumerate(labels)}
        config.extra_markers = extra
        for name, value in settings.items():
            setattr(config, name, value)
        with quiet_transformers():
            model = head(config)
        encoder = model.base_model
        encoder.load_state_dict(_with_pooler(state, encoder.state_dict()), strict=True)
        return TunedModel(model, tokenizer)


_WORDS, _TABLE = EMBEDDED.removeprefix("luke."), ENTITY_TABLE.removeprefix("luke.")


def load_base(source: str, tokenizer: str | None, say: Callable[[str], None]) -> Base:
    """Load a pre-trained model: the published archive, a folder of transformers, or a name.

    The result has entity-aware attention: plain attention is extended by copies of its queries.

    Args:
        source: path or name.
        tokenizer: word tokenizer of an archive; None for the one that it names.
        say: gets messages about slow steps.

    Raises:
        MissingFileError: the path does not exist.
        CheckpointError: it cannot be read, or is not a LUKE model.
    """
    folder = open_source(source, tokenizer, say)
    # The checkpoint of a model with plain attention may contain unused extra queries; they are not loaded.
    model, words, missing = read_folder(LukeModel, folder, f"the model {source!r}", REMEDY)
    config: Any = model.config
    config.use_entity_aware_attention = True
    state = dict(model.state_dict())
    _complete(source, state, missing)
    if not isinstance(words, LukeTokenizer):
        raise CheckpointError(f"{source!r} has a {type(words).__name__}; these tasks need LUKE's (mLUKE has another)")
    return Base(config, state, words)


def load_tuned(path: Path, head: HeadClass, base: Callable[[], Base], blank: Callable[[Base], TunedModel]) -> TunedModel:
    """Load a fine-tuned model: a folder of transformers, a file in one, or weights only, as the original published.

    Args:
        path: folder or file.
        head: class of the model.
        base: loads the pre-trained model, for weights only.
        blank: creates the model of the task from it, into which the weights are loaded.

    Raises:
        MissingFileError: it does not exist.
        CheckpointError: it is damaged, or was trained for another task; a head is never random.
    """
    folder = path if path.is_dir() else path.parent
    # The original's commands name pytorch_model.bin in an output folder, which here has model.safetensors.
    weights_there = path.is_dir() or path.name in WEIGHTS_FILES or not path.exists()
    if weights_there and (folder / "config.json").is_file() and any((folder / f).is_file() for f in WEIGHTS_FILES):
        return _tuned_folder(folder, head)
    if not path.is_file():
        raise MissingFileError(
            f"the checkpoint {path} does not exist; give the folder of a run, or weights of the original's (.bin)"
        )
    state = load_weights(path)
    return _tuned_weights(path, state, blank(base()))


def load_weights(path: Path) -> dict[str, Tensor]:
    """Weights of a ``.safetensors`` or ``.bin`` file on the CPU."""
    if path.suffix != ".safetensors":
        return read_state(path)
    require_file(path, "give another checkpoint")
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is truncated or damaged; give another checkpoint") from error


def with_entities(tokenizer: Any, ids: dict[str, int]) -> Any:
    """A copy of a tokenizer with another entity vocabulary, which is saved with it."""
    extended = copy.deepcopy(tokenizer)
    extended.entity_vocab = extended.init_kwargs["entity_vocab"] = ids
    extended.init_kwargs.pop("entity_vocab_file", None)
    for attribute, title in zip(("pad", "unk", "mask", "mask2"), SPECIAL_ENTITIES, strict=True):
        setattr(extended, f"entity_{attribute}_token_id", ids[title])
    return extended


def open_source(source: str, tokenizer: str | None, say: Callable[[str], None]) -> str:
    """Folder of transformers, or name there, of a model; an archive is converted into a folder.

    Args:
        source: archive, folder or name.
        tokenizer: word tokenizer of an archive; None for the one that it names.
        say: gets messages about slow steps.

    Raises:
        MissingFileError: there is nothing at that path.
    """
    path = Path(source)
    looks_like_path = source.endswith((".gz", ".tar", ".bz2", ".xz", ".bin")) or source.startswith((".", "/", "~"))
    if looks_like_path and not path.exists():
        raise MissingFileError(f"the model {source} does not exist; {REMEDY}")
    return str(converted(path, tokenizer, say)) if path.exists() and is_archive(path) else source


def read_folder(kind: HeadClass, folder: str, name: str, remedy: str) -> tuple[Any, Any, set[str]]:
    """A model in float32, its tokenizer, and the names of weights that the folder lacks, which are random.

    Args:
        kind: class of the model.
        folder: of transformers, or a name there.
        name: its name in messages.
        remedy: advice in messages.

    Raises:
        CheckpointError: it cannot be read, or is no LUKE model.
    """
    complete(Path(folder))
    with quiet_transformers():
        try:
            type_name = LukeConfig.get_config_dict(folder)[0].get("model_type")
            if type_name not in ("luke", "mluke"):
                raise CheckpointError(f"{name} is a model of type {type_name!r}, not 'luke'; {remedy}")
            read: Any = kind.from_pretrained(folder, output_loading_info=True, dtype=torch.float32)
            words = AutoTokenizer.from_pretrained(folder)
        except BlinkError:
            raise
        except Exception as error:  # transformers and huggingface_hub have many kinds for a damaged file
            # The library's message names one of its arguments instead.
            problem = "its weights have other shapes" if "mismatched_sizes" in str(error) else first_line(error)
            raise CheckpointError(f"cannot load {name} ({problem}); {remedy}") from error
    model, report = read
    return model, words, set(report["missing_keys"])


def first_names(names: set[str]) -> str:
    """The first names, and the number of the others."""
    first = sorted(names)[:3]
    return ", ".join(first) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _complete(source: str, state: dict[str, Tensor], missing: set[str]) -> None:
    """Add weights that a checkpoint may lack, and refuse one that lacks others."""
    names = {name.removeprefix("luke.") for name in missing}
    for name in filter(is_further_query, list(names)):
        del state[name]
        names.discard(name)
    copy_queries(state)
    names -= set(POOLER)
    if names:
        raise CheckpointError(f"the model {source!r} lacks {first_names(names)}; is it a complete LUKE model?")


def _with_pooler(state: Mapping[str, Tensor], encoder_state: Mapping[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """Weights that fit a model: its own pooler if they lack one, no pooler if the model has none."""
    pooler = {prefix + name for name in POOLER}
    return {
        **{name: encoder_state[name] for name in pooler & encoder_state.keys()},
        **{name: value for name, value in state.items() if name in encoder_state or name not in pooler},
    }


def _entity_rows(table: Tensor, ids: Mapping[str, int], all_entities: bool) -> tuple[Tensor, dict[str, int]]:
    """The rows that a task needs, padding first: row 0 gets no gradient and must not be the mask's (as in lite models)."""
    if not all_entities:
        return table[[ids[title] for title in SPECIAL_ENTITIES]], {title: i for i, title in enumerate(SPECIAL_ENTITIES)}
    first, pad = 0, ids[PAD]
    if pad == first:
        return table, dict(ids)
    order = list(range(len(table)))
    order[first], order[pad] = pad, first
    return table[order], {title: {first: pad, pad: first}.get(i, i) for title, i in ids.items()}


def _tuned_folder(folder: Path, head: HeadClass) -> TunedModel:
    model, tokenizer, missing = read_folder(head, str(folder), f"the checkpoint {folder}", "was it trained for this task?")
    missing -= {f"luke.{name}" for name in POOLER}
    if missing:
        raise CheckpointError(f"the checkpoint {folder} lacks {first_names(missing)}; was it trained for this task?")
    return TunedModel(model, tokenizer)


RENAMED = {"typing.": "classifier."}
"""Name prefixes in the original's checkpoints, and in transformers."""


def _tuned_weights(path: Path, state: dict[str, Tensor], blank: TunedModel) -> TunedModel:
    """Load the original's weights of a task into a new model of that task."""
    model_state = blank.model.state_dict()
    tops = {name.split(".")[0] for name in model_state} - {"luke"}
    weights: dict[str, Tensor] = {}
    for name, value in state.items():
        for old, new in RENAMED.items():
            name = new + name.removeprefix(old) if name.startswith(old) else name
        weights[name if name.startswith("luke.") or name.split(".")[0] in tops else f"luke.{name}"] = value.float()
    weights.pop("luke.embeddings.position_ids", None)
    for name in (EMBEDDED, ENTITY_TABLE):
        if name not in weights:
            raise CheckpointError(f"the checkpoint {path} lacks {name}; give weights of a complete model")
    weights[EMBEDDED] = _word_rows(path, weights[EMBEDDED], model_state[EMBEDDED], blank)
    weights[ENTITY_TABLE] = _table_rows(path, weights[ENTITY_TABLE], model_state[ENTITY_TABLE], blank)
    try:
        blank.model.load_state_dict(_with_pooler(weights, model_state, "luke."), strict=True)
    except RuntimeError as error:
        raise CheckpointError(
            f"the checkpoint {path} does not fit the task ({first_line(error)}); was it trained for it?"
        ) from error
    return blank


def _word_rows(path: Path, stored: Tensor, fresh: Tensor, blank: TunedModel) -> Tensor:
    """Reorder token rows: the original appends only the task's markers to RoBERTa's tokens, in order."""
    if stored.shape == fresh.shape:
        return stored
    plain = blank.tokenizer.convert_tokens_to_ids(FIRST)
    added = len(stored) - plain
    markers = blank.model.config.task_markers
    if added != len(markers):
        problem = f"has {added} more tokens than RoBERTa, this task adds {len(markers)}"
        raise CheckpointError(f"the checkpoint {path} {problem}; was it trained for this task?")
    rows = fresh.clone()
    rows[:plain] = stored[:plain]
    ids = blank.vocabulary().markers
    for i, marker in enumerate(markers):
        rows[ids[marker]] = stored[plain + i]
    return rows


def _table_rows(path: Path, stored: Tensor, fresh: Tensor, blank: TunedModel) -> Tensor:
    """Reorder entity rows: the original has padding, one or two masks only, or the full table without second mask."""
    if stored.shape == fresh.shape:
        return stored
    ids: dict[str, int] = blank.tokenizer.entity_vocab
    rows = fresh.clone()
    if len(stored) in (2, 3) and len(fresh) == len(SPECIAL_ENTITIES):
        for title, row in zip((PAD, MASK, MASK2), (0, 1, len(stored) - 1), strict=True):
            rows[ids[title]] = stored[row]
        rows[ids[UNKNOWN]] = stored[1]
    elif len(stored) == len(fresh) - 1 and ids[MASK2] == len(stored):
        rows[: len(stored)], rows[ids[MASK2]] = stored, stored[ids[MASK]]
    else:
        raise SettingsError(
            f"the checkpoint {path} has {len(stored)} entities, the model {len(fresh)}; "
            "give --model-file the one it was made from"
        )
    return rows
