"""What pre-training hides and what it leaves as it is."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from blink.errors import SettingsError
from blink.runs.fields import Positive
from blink.runs.settings import Settings

Probability = Annotated[float, Field(ge=0, le=1)]


class MaskSettings(Settings):
    """How much is hidden, and how."""

    masked_lm_prob: Probability = 0.15
    """Share of the tokens that are hidden; 0 hides none."""
    masked_entity_prob: Probability = 0.15
    """Share of the entities that are hidden; 0 hides none."""
    random_word_prob: Probability = 0.1
    """Share of the hidden words that are replaced at random."""
    unmasked_word_prob: Probability = 0.1
    """Share of the hidden words that stay as they are."""
    random_entity_prob: Probability = 0.0
    """Share of the hidden entities that are replaced at random."""
    unmasked_entity_prob: Probability = 0.0
    """Share of the hidden entities that stay as they are."""
    whole_word_masking: bool = True
    """Hide the tokens of a word together."""
    mask_words_in_entity_span: bool = False
    """Hide the words below a hidden entity too; they count among the hidden words."""
    word_only_training: bool = False
    """No entities at all."""

    @model_validator(mode="after")
    def _require_hidden(self) -> MaskSettings:
        for kind in ("word", "entity"):
            both = getattr(self, f"random_{kind}_prob") + getattr(self, f"unmasked_{kind}_prob")
            if both > 1:
                raise SettingsError(f"random_{kind}_prob and unmasked_{kind}_prob are {both:g} together; at most 1 is allowed")
        if not self.masked_lm_prob and (not self.masked_entity_prob or self.word_only_training):
            raise SettingsError("neither words nor entities are hidden; raise masked_lm_prob or masked_entity_prob")
        return self


class FreezeSettings(Settings):
    """What of a model does not learn."""

    fix_bert_weights: bool = False
    """First stage: only what RoBERTa does not have learns."""
    freeze_entity_emb: bool = False
    """The table of entities does not learn."""
    disable_entity_prediction_bias: bool = False
    """No biases of entities."""


class WindowLimits(Settings):
    """What is kept of an article."""

    max_seq_length: Annotated[int, Field(ge=3)] = 512
    """Tokens of a window, special ones included."""
    max_entity_length: Positive = 128
    """Links of a window; those behind are dropped."""
    max_mention_length: Positive = 30
    """Tokens of a link; those behind are dropped from its span."""
    min_sentence_length: Positive = 5
    """Tokens of a sentence; shorter ones are dropped."""
    abstract_only: bool = False
    """Only the text before the first heading of a page."""
    include_sentences_without_entities: bool = False
    """Keep windows without any link."""
    include_unk_entities: bool = False
    """Keep links to titles outside the vocabulary, as [UNK]."""


class DatasetChoice(Settings):
    """What a dataset is made of."""

    limits: WindowLimits = WindowLimits()
    """Lengths, and which links and sentences are kept."""
    sentence_splitter: str = "rules"
    """``rules`` or an ICU locale."""
    language: str | None = None
    """Whose titles of a vocabulary of many languages count."""
    max_num_documents: Positive | None = None
    """Articles from the beginning of the dump; None takes all."""
    predefined_entities_only: bool = False
    """Only articles that have an entity row themselves."""
