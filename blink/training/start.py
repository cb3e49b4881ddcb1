"""The initial model of a run: a pretrained encoder, a trained model, or a checkpoint of the original."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from blink.errors import CheckpointError, MismatchError, MissingFileError
from blink.files import read_json
from blink.model.adapters import add_adapters, has_adapters
from blink.model.biencoder import BiEncoder
from blink.model.config import ZERO_SHOT, ModelConfig
from blink.model.folder import CONFIG_FILE, ORIGINAL_SETTINGS, ORIGINAL_WEIGHTS
from blink.model.letter_case import CLASSES
from blink.model.original import OriginalFiles, read_original
from blink.model.pretrained import load_encoder
from blink.training.step.towers import standalone

DEFAULT_RANK = 64
"""Default rank of the adapters of a fresh model."""


@dataclass(frozen=True)
class Start:
    """Options of the initial model.

    Attributes:
        encoder: name or folder of the pretrained encoder of a fresh model.
        checkpoint: model folder, or the original's ``.bin``; None for a fresh model.
        candidate_only: load only the candidate encoder of ``checkpoint``, with a fresh context encoder.
        adapter_rank: rank of the context encoder's adapters; 0 trains the whole encoder; None is `DEFAULT_RANK` for a fresh
            model, and no change for a checkpoint.
        changes: settings of the model that differ from those of the encoder or checkpoint.
    """

    encoder: str
    checkpoint: str | None = None
    candidate_only: bool = False
    adapter_rank: int | None = None
    changes: dict[str, Any] | None = None


def is_checkpoint(name: str) -> bool:
    """Whether ``name`` is a whole model, and not a pretrained encoder."""
    path = Path(name)
    if path.suffix == ".bin" or (path / ORIGINAL_SETTINGS).is_file():
        return True
    return (path / CONFIG_FILE).is_file() and "aggregation" in read_json(path / CONFIG_FILE)


def starting_model(start: Start) -> BiEncoder:
    """Load or create the model, with both encoders, a mention head and, if requested, adapters.

    Raises:
        MissingFileError: the encoder or checkpoint does not exist.
        CheckpointError: the checkpoint is damaged, or lacks the requested encoder.
        MismatchError: context and candidate encoder have different vocabularies.
    """
    changes = {k: v for k, v in (start.changes or {}).items() if v is not None}
    if start.checkpoint is None:
        rank = DEFAULT_RANK if start.adapter_rank is None else start.adapter_rank
        return BiEncoder.from_encoder(start.encoder, ZERO_SHOT.replace(adapter_rank=rank, **changes))
    loaded = _load(Path(start.checkpoint))
    model = _with_fresh_context(loaded, start.encoder, changes) if start.candidate_only else _with_heads(loaded, changes)
    return _adapted(model, start.adapter_rank)


def _load(path: Path) -> BiEncoder:
    if (path / CONFIG_FILE).is_file() and not (path / ORIGINAL_WEIGHTS).is_file():
        return BiEncoder.from_pretrained(path, candidate=True, trainable=True)
    weights = path / ORIGINAL_WEIGHTS if path.is_dir() else path
    if not weights.is_file():
        raise MissingFileError(
            f"{path} is no model; give a folder written by `blink train`, or a checkpoint of the original (.bin)"
        )
    paths = [weights.with_name(ORIGINAL_SETTINGS), weights.parent.parent / ORIGINAL_SETTINGS, weights.with_suffix(".json")]
    settings = next((p for p in paths if p.is_file()), None)
    if settings is None:
        raise MissingFileError(f"{weights} has no settings next to it; put its {ORIGINAL_SETTINGS} or .json there")
    return read_original(OriginalFiles(weights, settings), candidate=True)


def _with_fresh_context(loaded: BiEncoder, encoder: str, changes: dict[str, Any]) -> BiEncoder:
    """The loaded candidate encoder with a pretrained context encoder."""
    loaded = standalone(loaded)
    if loaded.candidate_encoder is None:
        raise CheckpointError("the checkpoint holds no candidate encoder, which --load_cand_enc_only asks for; give another")
    context = load_encoder(encoder)
    size = context.get_input_embeddings().num_embeddings  # type: ignore[operator]
    if size != len(loaded.tokenizer):
        difference = f"{encoder} has a vocabulary of {size} tokens, the candidate encoder of {len(loaded.tokenizer)}"
        raise MismatchError(f"{difference}; give encoders of one vocabulary")
    return _joined(loaded, _with_mention_detection(loaded.config).replace(**changes), context)


def _with_heads(loaded: BiEncoder, changes: dict[str, Any]) -> BiEncoder:
    """The loaded model, with fresh heads if it has none or others are requested."""
    config = _with_mention_detection(loaded.config).replace(**changes)
    same = all(getattr(config, k) == getattr(loaded.config, k) for k in ("aggregation", "mention_scorer"))
    if same and loaded.candidate_encoder is not None:
        loaded.config = config
        _set_case_reading(loaded)
        return loaded
    return _joined(loaded, config, loaded.context_encoder)


def _set_case_reading(model: BiEncoder) -> None:
    """Give the model a fresh embedding of letter case if its settings ask for one that it lacks, or drop the one it has."""
    if not model.config.reads_case:
        model.case_embedding = None
    elif model.case_embedding is None:
        assert model.context_encoder is not None
        words = model.context_encoder.get_input_embeddings().weight  # type: ignore[operator]
        model.case_embedding = nn.Embedding.from_pretrained(words.new_zeros(CLASSES, words.shape[1]), freeze=False)
        model.tokenizer.read_case()


def _with_mention_detection(config: ModelConfig) -> ModelConfig:
    """Add mention detection to the settings of a BLINK checkpoint, which has no mention head and one mention per text."""
    scorer = "qa_linear" if config.mention_scorer == "none" else config.mention_scorer
    return config.replace(mention_scorer=scorer, aggregation="all_avg" if config.aggregation == "cls" else config.aggregation)


def _joined(loaded: BiEncoder, config: ModelConfig, context: Any) -> BiEncoder:
    model = BiEncoder(
        config, loaded.tokenizer, context=context, candidate=loaded.candidate_encoder, entity_size=loaded.entity_size
    )
    model.load_state_dict({k: v for k, v in loaded.state_dict().items() if k in ("log_scale",)}, strict=False)
    if model.additional_linear is not None and loaded.additional_linear is not None:
        model.additional_linear.load_state_dict(loaded.additional_linear.state_dict())
    if model.case_embedding is not None and loaded.case_embedding is not None:
        model.case_embedding.load_state_dict(loaded.case_embedding.state_dict())
    return model


def _adapted(model: BiEncoder, rank: int | None) -> BiEncoder:
    assert model.context_encoder is not None
    if rank and not has_adapters(model.context_encoder):
        add_adapters(model.context_encoder, rank)
        model.config = model.config.replace(adapter_rank=rank)
    return model
