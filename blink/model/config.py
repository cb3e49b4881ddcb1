"""What a bi-encoder is made of, and the names that are allowed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from blink.errors import SettingsError

AGGREGATIONS = ("all_avg", "fl_avg", "all_avg_linear", "fl_linear", "all_mlp", "fl_mlp", "cls")
"""How token vectors become a mention vector; ``cls`` is BLINK's one-mention-per-text mode."""

BROKEN_AGGREGATIONS = {"all_linear": "all_avg_linear", "fl_avg_linear": "fl_linear"}
"""Names that the original accepts and computes wrongly, with the one that was meant."""

MENTION_SCORERS = {"qa_linear": "qa_linear", "qa_mlp": "qa_mlp", "qa": "qa_mlp"}
CANDIDATE_POOLINGS = ("cls", "mean", "linear")
CANDIDATE_FIELDS = ("title_text", "title_aliases_text")

FEATURE_GROUPS: dict[str, tuple[str, ...]] = {
    "context": ("logit", "behind_best", "ahead_of_next", "log_softmax"),
    "topic": ("topic", "topic_behind_best", "topic_behind_best_named", "topic_ahead_of_next"),
    "names": (
        "alias",
        "bare_title",
        "title",
        "is_unambiguous",
        "is_fuzzy_match",
        "namesakes",
        "in_alias_table",
        "named_margin",
        "behind_best_named",
        "namesake_log_softmax",
        "namesakes_ahead",
    ),
    "spelling": (
        "dice",
        "words_found",
        "words_covered",
        "initials",
        "behind_best_dice",
        "mention_coverage",
        "name_coverage",
        "word_dice",
        "rest_in_context",
    ),
    "popularity": ("popularity", "popularity_gap", "aliases", "words", "common_noun"),
    "mention": (
        "mention",
        "width",
        "is_lowercase",
        "is_capitalized",
        "is_numeric",
        "overlap_margin",
        "longer_name",
        "shorter_name",
        "longer_mention",
    ),
    "surroundings": (
        "left_capital",
        "left_first_capital",
        "right_capital",
        "is_first",
        "is_all_caps",
        "capitals",
        "length",
        "is_cased",
        "text_capitals",
    ),
    "catalogue": ("entities",),
}
"""Features of the reranker, by group; a group can be switched off. How each is measured: `blink.linking.features`."""


@dataclass(frozen=True)
class ModelConfig:
    """Settings of a `BiEncoder`, stored in its ``config.json``.

    Attributes:
        aggregation: one of `AGGREGATIONS`.
        mention_scorer: ``qa_linear``, ``qa_mlp`` (alias ``qa``), or ``none`` where there is no mention head.
        max_mention_length: largest ``end - start`` of inclusive token bounds, so 10 allows 11 tokens (as the original).
        max_context_length: window length in tokens, ``[CLS]`` and ``[SEP]`` included.
        window_length: tokens of a window of whole sentences of a long text, special tokens included; 0 for windows
            of ``max_context_length`` tokens that overlap.
        document: short mentions follow the full names of their text, see `blink.linking.document`.
        max_candidate_length: length of an entity's input in tokens, special tokens included.
        candidate_pooling: ``cls`` (the original), ``mean`` over tokens, or ``linear`` (pooler, then a linear layer).
        candidate_fields: what of an entity is read: ``title_text`` (the original) or ``title_aliases_text``.
        cosine: vectors have unit length, and mention vectors are multiplied by a learned scale; inner products are then
            scaled cosines.
        lowercase: texts are lower-cased before they are tokenized.
        whole_words: only spans of whole words are proposed as mentions.
        isolate_symbols: texts are split around symbols such as emoji, see `Tokenizer.isolate_symbols`.
        reads_case: the context encoder reads the capital letters of each word, which a lower-casing tokenizer drops, as one
            more embedding of its tokens, see `blink.model.letter_case`.
        hard_breaks: all blanks separate words, and no mention runs over separators of names, see `blink.model.breaks`.
        threshold: the joint score above which a link is kept unless the caller says otherwise.
        cutoff: the probability above which a link is kept where candidates are ranked, unless the caller says otherwise.
        base: name or folder of the pretrained encoder that adapters were trained on; None where all weights are stored.
        base_sha256: hash of that encoder's weights.
        adapter_rank: rank of the low-rank adapters in the context encoder; 0 for none.
        candidate_fingerprint: hash of everything that decides an entity's vector; binds a knowledge base to models.
    """

    aggregation: str = "all_avg"
    mention_scorer: str = "qa_linear"
    max_mention_length: int = 10
    max_context_length: int = 128
    window_length: int = 0
    document: bool = False
    max_candidate_length: int = 128
    candidate_pooling: str = "cls"
    candidate_fields: str = "title_text"
    cosine: bool = False
    lowercase: bool = True
    whole_words: bool = False
    isolate_symbols: bool = False
    reads_case: bool = False
    hard_breaks: bool = False
    threshold: float = -4.5
    cutoff: float = 0.5
    base: str | None = None
    base_sha256: str | None = None
    adapter_rank: int = 0
    candidate_fingerprint: str | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            _require_type(field.name, getattr(self, field.name), str(field.type))
        if self.aggregation in BROKEN_AGGREGATIONS:
            meant = BROKEN_AGGREGATIONS[self.aggregation]
            raise SettingsError(
                f"aggregation {self.aggregation!r} is not computable (the original leaves it unfinished); use {meant!r}"
            )
        _require("aggregation", self.aggregation, AGGREGATIONS)
        _require("mention_scorer", self.mention_scorer, (*MENTION_SCORERS, "none"))
        _require("candidate_pooling", self.candidate_pooling, CANDIDATE_POOLINGS)
        _require("candidate_fields", self.candidate_fields, CANDIDATE_FIELDS)
        if self.window_length:
            _require_least("window_length", self.window_length, 3)
        for name, least in (("max_mention_length", 0), ("max_context_length", 3), ("max_candidate_length", 3)):
            _require_least(name, getattr(self, name), least)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """Read the settings from a mapping; keys that are not settings of the model are ignored."""
        names = {f.name for f in fields(cls)}
        return cls(**{k: v for k, v in values.items() if k in names})

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain values."""
        return asdict(self)

    def replace(self, **changes: Any) -> ModelConfig:
        """A copy with some settings changed."""
        return replace(self, **changes)


_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "str | None": (str, type(None)),
}


def _require_type(name: str, value: object, kind: str) -> None:
    """A file of settings may hold anything."""
    if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "bool") or value != value:
        raise SettingsError(f"{name} is {value!r}; it must be {kind.replace('str', 'text').replace('None', 'null')}")


def _require_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise SettingsError(f"{name} is {value}; it must be at least {least}")


def _require(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise SettingsError(f"{name} is {value!r}; allowed are {', '.join(allowed)}")


ZERO_SHOT = ModelConfig(
    cosine=True,
    candidate_pooling="mean",
    candidate_fields="title_aliases_text",
    max_candidate_length=64,
    whole_words=True,
    isolate_symbols=True,
    hard_breaks=True,
    window_length=64,
    threshold=-2.0,
)
"""How entities are read by a sentence encoder that was never trained for linking."""
