"""Initial models of pre-training (RoBERTa with new entity parameters, or LUKE), and models saved for fine-tuning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, LukeConfig, LukeForMaskedLM, RobertaForMaskedLM

from blink.errors import CheckpointError, MismatchError, SettingsError, first_line
from blink.model.pretrained import quiet_transformers
from examples.luke.archive import Archive
from examples.luke.convert import MARKED_LIKE, save_folder, to_archive, to_transformers
from examples.luke.pretrained import load_pretrained, make_plain
from examples.pretraining.dataset import PackedDataset
from examples.pretraining.settings import FreezeSettings
from examples.pretraining.vocabulary import EntityVocab

NEW_PREFIXES = ("luke.entity_embeddings.", "entity_predictions.", "cls_entity.")
"""Name prefixes of parameters that RoBERTa does not have; the first stage trains only these."""
_TABLE = "luke.entity_embeddings.entity_embeddings.weight"
_SHARED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act", "layer_norm_eps",
           "hidden_dropout_prob", "attention_probs_dropout_prob", "max_position_embeddings", "type_vocab_size", "vocab_size",
           "initializer_range", "pad_token_id", "bos_token_id", "eos_token_id")  # fmt: skip


def from_roberta(name: str, vocab: EntityVocab, entity_emb_size: int) -> LukeForMaskedLM:
    """A LUKE with a RoBERTa's weights; entity parameters are drawn from torch's generator.

    Raises:
        CheckpointError: there is no RoBERTa of that name, or it has no language-model head.
    """
    with quiet_transformers():
        try:
            config = AutoConfig.from_pretrained(name)
            if config.model_type != "roberta":
                raise CheckpointError(
                    f"{name!r} is a model of type {config.model_type!r}; give a RoBERTa, such as roberta-base"
                )
            loaded: Any = RobertaForMaskedLM.from_pretrained(name, output_loading_info=True, dtype=torch.float32)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            problem = f"cannot load the model {name!r} ({first_line(error)})"
            raise CheckpointError(
                f"{problem}; give a RoBERTa by --bert-model-name: a folder, or a name such as roberta-base"
            ) from error
        roberta, report = loaded
        missing = set(report["missing_keys"]) - {"lm_head.decoder.weight", "lm_head.decoder.bias", "lm_head.bias"}
        if missing:
            raise CheckpointError(
                f"the model {name!r} lacks {', '.join(sorted(missing)[:3])}; give a RoBERTa with its language-model head"
            )
        sizes: dict[str, Any] = {
            "entity_vocab_size": len(vocab),
            "entity_emb_size": entity_emb_size,
            "use_entity_aware_attention": False,
        }
        model = LukeForMaskedLM(LukeConfig(**{k: getattr(config, k) for k in _SHARED}, **sizes))
    state = {
        ("luke." + k.removeprefix("roberta.") if k.startswith("roberta.") else k): v for k, v in roberta.state_dict().items()
    }
    report = model.load_state_dict(state, strict=False)
    assert not report.unexpected_keys
    assert all(k.startswith((*NEW_PREFIXES, "luke.pooler.")) for k in report.missing_keys)
    return tied(model)


def from_luke(source: str, data: PackedDataset, tokenizer: str | None, say: Callable[[str], None]) -> LukeForMaskedLM:
    """A pre-trained LUKE with plain attention and without the rows that only fine-tuning needs.

    Raises:
        MismatchError: its entities differ from those of the dataset.
    """
    pretrained = load_pretrained(source, tokenizer, say)
    make_plain(pretrained.model.luke, pretrained.model.config)
    archive = to_archive(pretrained.model, pretrained.tokenizer, source)
    titles, vocab = [row.names[0] for row in archive.entities], data.vocab()
    if titles != vocab.titles:
        problem = f"the model {source!r} has {len(titles)} entities, the dataset {data.folder} has {len(vocab)} or others"
        raise MismatchError(f"{problem}; give the dataset that the model was trained on, or one with its vocabulary")
    aware = pretrained.model.config.use_entity_aware_attention
    config = LukeConfig(**{**archive.config, "use_entity_aware_attention": aware})
    with quiet_transformers():
        model = LukeForMaskedLM(config)
    model.load_state_dict(
        {k if k.startswith(("lm_head.", "entity_predictions.")) else f"luke.{k}": v for k, v in archive.state.items()}
    )
    return tied(model)


def tied(model: LukeForMaskedLM) -> LukeForMaskedLM:
    """Tie the weights of word decoder and word embeddings, which transformers 5 no longer does."""
    model.lm_head.decoder.weight = model.luke.embeddings.word_embeddings.weight
    return model


def freeze(model: nn.Module, settings: FreezeSettings) -> None:
    """Set which parameters are trained.

    Raises:
        SettingsError: all parameters are frozen.
    """
    for name, parameter in model.named_parameters():
        new = name.startswith(NEW_PREFIXES)
        frozen = (name == _TABLE and settings.freeze_entity_emb) or (settings.fix_bert_weights and not new)
        frozen |= name == "entity_predictions.bias" and settings.disable_entity_prediction_bias
        parameter.requires_grad_(not frozen)
    if not any(p.requires_grad for p in model.parameters()):
        raise SettingsError("all parameters of the model are frozen; omit --fix-bert-weights or --freeze-entity-emb")


def store(model: LukeForMaskedLM, data: PackedDataset, encoder_name: str, folder: Path) -> None:
    """Write a model for fine-tuning: with markers, a second mask and copied queries for entity-aware attention."""
    state: dict[str, Tensor] = {
        name.removeprefix("luke."): value.detach().cpu().clone()
        for name, value in model.state_dict().items()
        if not name.startswith("cls_entity.")
    }
    limits = {key: data.metadata[key] for key in ("max_seq_length", "max_entity_length", "max_mention_length")}
    config = {k: v for k, v in model.config.to_dict().items() if k not in ("architectures", "dtype", "transformers_version")}
    rows = data.vocab().rows
    archive = Archive(state, {"model_config": {**config, "bert_model_name": encoder_name}, **limits}, list(rows))
    converted, tokenizer = to_transformers(archive, str(data.folder))
    save_folder(converted, tokenizer, folder, rows)


def require_same_tokens(model: LukeForMaskedLM, tokenizer: Any, data: PackedDataset) -> None:
    """Check that dataset and model have the same tokens.

    Raises:
        MismatchError: the dataset has another tokenizer.
    """
    tokens = set(tokenizer.backend_tokenizer.get_vocab(with_added_tokens=False)) - set(MARKED_LIKE)
    n_tokens, vocab_size = len(tokens), model.config.vocab_size
    if n_tokens > vocab_size or tokenizer.mask_token_id is None:
        problem = f"the dataset {data.folder} was built with a tokenizer of {n_tokens} tokens, the model has {vocab_size}"
        raise MismatchError(f"{problem}; build the dataset with the model's tokenizer")
