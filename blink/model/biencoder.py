"""The bi-encoder: one BERT reads the text and proposes mentions, another reads entity descriptions.

Li et al. 2020 ("Efficient One-Pass End-to-End Entity Linking for Questions") on top of Wu et al. 2020 (BLINK).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from blink.data.records import Entity
from blink.errors import CheckpointError, SettingsError
from blink.files import atomic_open, sha256
from blink.forking import one_thread_when_forked
from blink.hub.names import local_folder
from blink.input_files import utf8_path
from blink.model.adapters import add_adapters, has_adapters, merge_adapters, shrunk, trained_state
from blink.model.backends.protocol import NO_MENTION_HEAD
from blink.model.batches import TOKENS_PER_BATCH, batches_by_length, for_each_on_cpu
from blink.model.config import ModelConfig
from blink.model.folder import ADAPTERS_FILE, CONFIG_FILE, WEIGHTS_FILE, encoder_folder, read_settings
from blink.model.heads import MentionAggregator, MentionScorer, SpanScores, mean_around, span_logits
from blink.model.letter_case import CLASSES, STRIDE
from blink.model.pretrained import encoder_from_state, load_encoder, longest_input
from blink.model.publishing import PublishableModel
from blink.model.reranker import RerankerNetwork
from blink.model.stored_files import load_reranker, replacing_model, require_whole_model, write_settings
from blink.model.stored_weights import INITIAL_SCALE, digest_of_heads, fingerprint, require_base
from blink.model.tokenizer import Tokenizer, entity_texts, pad
from blink.model.weight_checks import require_finite_tensors, require_floats

one_thread_when_forked("torch", "set_num_threads")


class BiEncoder(PublishableModel, nn.Module):
    """Context encoder, candidate encoder and the heads between them.

    Either tower may be absent: linking needs no candidate encoder, building a knowledge base no context encoder.

    Attributes:
        reranker: scores candidates from their features, where one was fitted.

    Args:
        config: settings.
        tokenizer: of both towers.
        context: the encoder that reads texts.
        candidate: the encoder that reads entities.
        entity_size: numbers in an entity vector; by default the width of ``candidate``, or of ``context``.
    """

    def __init__(
        self,
        config: ModelConfig,
        tokenizer: Tokenizer,
        *,
        context: nn.Module | None = None,
        candidate: nn.Module | None = None,
        entity_size: int | None = None,
    ) -> None:
        super().__init__()
        if context is None and candidate is None:
            raise SettingsError("a bi-encoder needs a context encoder, a candidate encoder, or both")
        self.config = config
        self.reranker: RerankerNetwork | None = None
        self.tokenizer = tokenizer
        tokenizer.configure(config)
        for tower in (context, candidate):
            _require_tokens(tokenizer, tower)
        self.context_encoder = context
        self.candidate_encoder = candidate
        self.mention_scorer: MentionScorer | None = None
        self.aggregator: MentionAggregator | None = None
        self.log_scale = nn.Parameter(torch.tensor(math.log(INITIAL_SCALE))) if config.cosine else None
        self.additional_linear: nn.Linear | None = None
        self.case_embedding: nn.Embedding | None = None
        self.entity_size = entity_size or _width(candidate or context)
        if config.candidate_pooling == "linear" and candidate is not None:
            self.additional_linear = nn.Linear(_width(candidate), self.entity_size)
        if context is not None:
            self.aggregator = MentionAggregator(config.aggregation, _width(context), self.entity_size)
            if config.mention_scorer != "none":
                self.mention_scorer = MentionScorer(config.mention_scorer, _width(context))
            if config.reads_case:
                self.case_embedding = nn.Embedding.from_pretrained(torch.zeros(CLASSES, _width(context)), freeze=False)

    # -- texts ---------------------------------------------------------------------------------------------------

    def encode_context(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Token vectors of texts, (batch, seq, hidden). ``ids`` (or codes, see `Encoding.codes`) and ``mask`` (true at real
        tokens): (batch, seq).
        """
        tower = self._tower("context")
        if self.case_embedding is None:
            return _last_hidden(tower, ids % STRIDE, mask)  # the tokenizer may be shared with a model that reads case
        words = tower.get_input_embeddings()(ids % STRIDE)  # type: ignore[operator]
        embedded = words + self.case_embedding(ids // STRIDE).to(words.dtype)
        hidden: Tensor = tower(inputs_embeds=embedded, attention_mask=mask.long()).last_hidden_state
        return hidden

    def score_spans(self, hidden: Tensor, mask: Tensor) -> SpanScores:
        """Score every span as a mention.

        Raises:
            CheckpointError: the model has no mention head.
        """
        if self.mention_scorer is None:
            raise CheckpointError(NO_MENTION_HEAD)
        return span_logits(self.mention_scorer(hidden.float()), mask, self.config.max_mention_length)

    def embed_mentions(self, hidden: Tensor, text: Tensor, start: Tensor, end: Tensor) -> Tensor:
        """Vectors of spans, ready for an inner product with entity vectors; arguments as of `MentionAggregator`.

        Returns:
            vectors; with ``config.cosine`` of length exp(log_scale). *Shape:* (n, entity_size), float32.
        """
        assert self.aggregator is not None  # a context tower brings one
        return self._scaled(self.aggregator(hidden, text, start, end))

    @property
    def embeds_topics(self) -> bool:
        """Whether token vectors can be compared with entity vectors as they are, so that those around a mention can be."""
        aggregator = self.aggregator
        return aggregator is not None and aggregator.mention_agg_linear is None

    def embed_topics(self, hidden: Tensor, mask: Tensor, text: Tensor, start: Tensor, end: Tensor) -> Tensor:
        """Vectors of the text around spans, as comparable with entity vectors as those of mentions; arguments as of
        `blink.model.heads.mean_around`, *shape* (n, entity_size), float32.
        """
        return self._scaled(mean_around(hidden, mask, text, start, end))

    def _scaled(self, vectors: Tensor) -> Tensor:
        """With ``config.cosine`` vectors of length exp(log_scale)."""
        return vectors if self.log_scale is None else nn.functional.normalize(vectors, dim=-1) * self.log_scale.exp()

    # -- entities ------------------------------------------------------------------------------------------------

    def encode_candidates(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Vectors of entity inputs. ``ids``, ``mask``: (n, seq); result (n, entity_size), float32."""
        tower = self._tower("candidate")
        if self.additional_linear is not None:
            pooled = tower(input_ids=ids, attention_mask=mask.long()).pooler_output
            vectors: Tensor = self.additional_linear(pooled.float())
        else:
            hidden = _last_hidden(tower, ids, mask).float()
            vectors = hidden[:, 0] if self.config.candidate_pooling == "cls" else _masked_mean(hidden, mask)
        return nn.functional.normalize(vectors, dim=-1) if self.config.cosine else vectors

    def entity_texts(self, entity: Entity) -> tuple[str, str, str]:
        """All that `encode_entities` reads of an entity: title, aliases and description."""
        return entity_texts(entity, self.config.candidate_fields, self.config.max_candidate_length)

    def encode_entities(self, entities: Sequence[Entity], batch_size: int = 64) -> np.ndarray:
        """Encode entities; sorted by length inside, results in the caller's order.

        An input is cut to ``config.max_candidate_length``, or to what the encoder can read where that is less. On a CPU all
        cores are used, each for batches of its own.

        Args:
            entities: to encode.
            batch_size: most entities of a forward pass.

        Returns:
            vectors. *Shape:* (len(entities), entity_size), float32.
        """
        length = min(self.config.max_candidate_length, longest_input(self._tower("candidate")))
        rows = self.tokenizer.entity_ids(entities, self.config.candidate_fields, length)
        vectors = np.empty((len(rows), self.entity_size), dtype=np.float32)
        device = next(self._tower("candidate").parameters()).device

        @torch.inference_mode()
        def encode(batch: list[int]) -> None:
            ids, mask = pad([rows[i] for i in batch], self.tokenizer.pad_id)
            encoded = self.encode_candidates(torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device))
            vectors[batch] = encoded.cpu().numpy()

        lengths = [len(row) for row in rows]
        if device.type == "cpu":
            for_each_on_cpu(encode, batches_by_length(lengths, batch_size, TOKENS_PER_BATCH))
        else:
            for batch in batches_by_length(lengths, batch_size):
                encode(batch)
        return vectors

    def candidate_fingerprint(self) -> str:
        """Hash of everything that decides an entity's vector: candidate weights, tokenizer and input settings."""
        if self.candidate_encoder is None:
            if self.config.candidate_fingerprint is None:
                raise SettingsError(
                    "the candidate encoder is not loaded and its fingerprint is not stored; load it with candidate=True"
                )
            return self.config.candidate_fingerprint
        state = {**self.candidate_encoder.state_dict(), **_prefixed(self.additional_linear, "additional_linear.")}
        return fingerprint_of_state(self.config, self.tokenizer, state)

    def heads_digest(self) -> str:
        """Identifies the scores of the bi-encoder: hash of its heads and of the candidate encoder, in 16 digits."""
        towers = ("context_encoder.", "candidate_encoder.")
        return digest_of_heads(self.config, (_array(v) for n, v in self.named_parameters() if not n.startswith(towers)))

    # -- construction --------------------------------------------------------------------------------------------

    @classmethod
    def from_encoder(cls, name: str, config: ModelConfig) -> BiEncoder:
        """A fresh model on a pretrained encoder (a packaged name, a folder, or ``hf://OWNER/NAME``); both towers begin as it.

        With ``config.adapter_rank`` the context encoder gets adapters and its own weights are frozen.
        """
        if config.candidate_pooling == "linear":
            raise SettingsError("a fresh model has no trained pooler; candidate_pooling must be cls or mean")
        folder = encoder_folder(name)
        model = cls(config, Tokenizer.from_pretrained(folder), context=load_encoder(name), candidate=load_encoder(name))
        if config.adapter_rank:
            weights = Path(folder) / WEIGHTS_FILE
            model.config = config.replace(base=name, base_sha256=sha256(weights) if weights.is_file() else None)
            add_adapters(model._tower("context"), config.adapter_rank)
            model._tower("candidate").requires_grad_(False)
        model.config = model.config.replace(candidate_fingerprint=model.candidate_fingerprint())
        return model

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model into ``folder``: settings, tokenizer, and all weights or, with adapters, only what was trained; and
        checksums of these files. A model that was there is replaced, as a whole or not at all.

        Raises:
            SettingsError: the adapters were merged into the weights, so what was trained is no longer known.
        """
        if self.config.base is not None and not has_adapters(self._tower("context")):
            raise SettingsError("the model's adapters are merged into its weights; load it with trainable=True to save it")
        with replacing_model(Path(folder), self.config) as new:
            if self.config.base is not None:
                _save_tensors(new / ADAPTERS_FILE, {k: v.half() for k, v in self.trained_tensors().items()})
            else:
                _save_tensors(new / WEIGHTS_FILE, self.state_dict())
                self.tokenizer.save(new)
                if self.candidate_encoder is not None:  # it may have been trained since the fingerprint was taken
                    self.config = self.config.replace(candidate_fingerprint=self.candidate_fingerprint())
            if self.reranker is not None:
                self.reranker.save(new)
            towers = {name: _settings(tower) for name, tower in self._towers().items() if self.config.base is None}
            others = {"entity_size": self.entity_size, **towers}
            write_settings(new, Path(folder), self.config, others, has_reranker=self.reranker is not None)

    def trained_tensors(self) -> dict[str, Tensor]:
        """What differs from the base: adapters, biases and norms of the context encoder, and the heads."""
        heads = {k: v for k, v in self.state_dict().items() if not k.startswith(("context_encoder.", "candidate_encoder."))}
        return {**heads, **{f"context_encoder.{k}": v for k, v in trained_state(self._tower("context")).items()}}

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, *, context: bool = True, candidate: bool = False, trainable: bool = False
    ) -> BiEncoder:
        """Load a model written by `save_pretrained`.

        Args:
            folder: of the model, or its name on the hub, ``hf://OWNER/NAME``.
            context: load the tower that reads texts.
            candidate: load the tower that reads entities; linking does not need it.
            trainable: do not merge adapters into the weights they adapt, for more training.

        Raises:
            MissingFileError: the folder, or a file in it, is not there.
            CheckpointError: a file is damaged, was changed since it was stored, or does not fit the settings.
            MismatchError: the encoder that it adapts was changed.
        """
        folder = local_folder(folder)
        require_whole_model(folder)
        values = read_settings(folder)
        if not all(isinstance(values.get(name, {}), dict) for name in ("context_encoder", "candidate_encoder")):
            raise CheckpointError(f"{folder / CONFIG_FILE} holds no settings; copy the model folder again")
        config = ModelConfig.from_dict(values)
        if config.base is not None:
            model = cls._from_adapters(folder, config, context, candidate, trainable)
        else:
            tokenizer = Tokenizer.from_pretrained(folder)
            skip = () if candidate else ("candidate_encoder.", "additional_linear.")
            state, size = _load_tensors(folder / WEIGHTS_FILE, skip=skip), values.get("entity_size")
            model = cls.from_state(config, tokenizer, values, state, size, context=context, candidate=candidate)
        model.reranker = load_reranker(folder)
        return model

    @classmethod
    def from_state(
        cls,
        config: ModelConfig,
        tokenizer: Tokenizer,
        towers: Mapping[str, Any],
        state: Mapping[str, Tensor],
        entity_size: int | None,
        *,
        context: bool = True,
        candidate: bool = False,
    ) -> BiEncoder:
        """Build a model from settings of its towers (``context_encoder``, ``candidate_encoder``) and all its weights.

        Raises:
            CheckpointError: weights are missing, superfluous or of the wrong shape.
        """
        requested = {"context": context, "candidate": candidate}
        encoders = {}
        for tower in [name for name, needed in requested.items() if needed and f"{name}_encoder" in towers]:
            prefix = f"{tower}_encoder."
            tower_state = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            with_pooler = tower == "candidate" and config.candidate_pooling == "linear"
            encoders[tower] = encoder_from_state(towers[f"{tower}_encoder"], tower_state, pooler=with_pooler)
        model = cls(config, tokenizer, entity_size=entity_size, **encoders)
        model._load_heads(state)
        return model.eval()

    @classmethod
    def _from_adapters(cls, folder: Path, config: ModelConfig, context: bool, candidate: bool, trainable: bool) -> BiEncoder:
        assert config.base is not None
        base = encoder_folder(config.base)
        weights = Path(base) / WEIGHTS_FILE
        require_base(folder, config, weights)
        model = cls(
            config,
            Tokenizer.from_pretrained(base),
            context=load_encoder(config.base) if context else None,
            candidate=load_encoder(config.base) if candidate else None,
        )
        if context:
            tower = model._tower("context")
            add_adapters(tower, config.adapter_rank)
            state = {k: v.float() for k, v in _load_tensors(folder / ADAPTERS_FILE).items()}
            model._load_heads(state)
            _load_partial(
                tower, {k.removeprefix("context_encoder."): v for k, v in state.items() if k.startswith("context_encoder.")}
            )
            if not trainable:
                merge_adapters(tower)
        return model.eval()

    def _load_heads(self, state: Mapping[str, Tensor]) -> None:
        heads = {k: v for k, v in self.state_dict().items() if not k.startswith(("context_encoder.", "candidate_encoder."))}
        missing = sorted(k for k in heads if k not in state)
        wrong = sorted(k for k in heads if k in state and state[k].shape != heads[k].shape)
        if missing or wrong:
            what = f"lacks {', '.join(missing)}" if missing else f"has another shape for {', '.join(wrong)}"
            raise CheckpointError(
                f"the checkpoint {what}, which {self.config.aggregation} with {self.config.mention_scorer} needs; "
                "give the settings it was trained with"
            )
        self.load_state_dict({k: state[k].float() for k in heads}, strict=False)

    def _towers(self) -> dict[str, nn.Module]:
        towers = {"context_encoder": self.context_encoder, "candidate_encoder": self.candidate_encoder}
        return {name: tower for name, tower in towers.items() if tower is not None}

    def _tower(self, name: str) -> nn.Module:
        tower = self.context_encoder if name == "context" else self.candidate_encoder
        if tower is None:
            raise SettingsError(f"the {name} encoder was not loaded; load the model with {name}=True")
        return tower


def shrink_model(folder: str | Path, out: str | Path, rank: int) -> None:
    """Store a model of adapters again with adapters of a lower rank: a smaller file, nearly the same model.

    Raises:
        MissingFileError: there is no model in ``folder``.
        SettingsError: it has no adapters, or none of a higher rank.
    """
    model = BiEncoder.from_pretrained(folder, context=False, candidate=True)
    config = model.config
    if config.base is None or not 1 <= rank < config.adapter_rank:
        raise SettingsError(f"{folder} has adapters of rank {config.adapter_rank}; give a model with adapters and a rank below")
    others = read_settings(local_folder(folder))
    tensors = shrunk(_load_tensors(local_folder(folder) / ADAPTERS_FILE), rank)
    with replacing_model(Path(out), config) as new:
        _save_tensors(new / ADAPTERS_FILE, tensors)
        if model.reranker is not None:
            model.reranker.save(new)
        write_settings(new, Path(out), config.replace(adapter_rank=rank), others, has_reranker=model.reranker is not None)


def fingerprint_of_state(config: ModelConfig, tokenizer: Tokenizer, candidate_state: Mapping[str, Tensor]) -> str:
    """`blink.model.stored_weights.fingerprint` of tensors."""
    return fingerprint(config, tokenizer, {name: _array(value) for name, value in candidate_state.items()})


def _array(value: Tensor) -> np.ndarray:
    return value.detach().float().cpu().contiguous().numpy()


def _require_tokens(tokenizer: Tokenizer, tower: nn.Module | None) -> None:
    """Check that an encoder knows all tokens of a tokenizer: a special token of another name becomes a new one."""
    of_tower = getattr(tower, "get_input_embeddings", None)
    embeddings = None if of_tower is None else of_tower()
    if isinstance(embeddings, nn.Embedding) and len(tokenizer) > embeddings.num_embeddings:
        problem = f"the tokenizer has {len(tokenizer):,} tokens, its encoder knows {embeddings.num_embeddings:,}"
        raise CheckpointError(f"{problem}; copy the files of the tokenizer again")


def _last_hidden(tower: nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
    hidden: Tensor = tower(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    return hidden


def _masked_mean(hidden: Tensor, mask: Tensor) -> Tensor:
    weights = mask[..., None].float()
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)


def _width(tower: nn.Module | None) -> int:
    assert tower is not None
    return int(tower.config.hidden_size)  # type: ignore[union-attr, arg-type]


def _settings(tower: nn.Module) -> dict[str, Any]:
    settings: dict[str, Any] = tower.config.to_dict()  # type: ignore[union-attr, operator]
    return settings


def _prefixed(module: nn.Module | None, prefix: str) -> dict[str, Tensor]:
    return {} if module is None else {prefix + k: v for k, v in module.state_dict().items()}


def _load_partial(tower: nn.Module, state: Mapping[str, Tensor]) -> None:
    trainable = {n: p for n, p in tower.named_parameters() if p.requires_grad}
    if trainable.keys() != state.keys() or any(trainable[n].shape != state[n].shape for n in trainable):
        raise CheckpointError("the adapters do not fit the encoder they name; copy the model folder again")
    with torch.no_grad():
        for name, parameter in trainable.items():
            parameter.copy_(state[name])


def _save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    with atomic_open(path, "wb") as f:
        name = f.name
        save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, name)


def _load_tensors(path: Path, skip: tuple[str, ...] = ()) -> dict[str, Tensor]:
    require_floats(path)
    try:
        with safe_open(utf8_path(path), framework="pt") as f:
            tensors = {k: f.get_tensor(k) for k in f.keys() if not (skip and k.startswith(skip))}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); copy the model folder again") from error
    require_finite_tensors(path, tensors)
    return tensors
