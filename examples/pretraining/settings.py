"""Settings of masking, frozen parameters, windows and datasets."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from blink.errors import SettingsError
from blink.runs.fields import Positive
from blink.runs.settings import Settings

Probability = Annotated[float, Field(ge=0, le=1)]


class MaskSettings(Settings):
    """Probabilities and units of masking."""

    masked_lm_prob: Probability = 0.15
    """Fraction of the tokens that are masked; 0 masks none."""
    masked_entity_prob: Probability = 0.15
    """Fraction of the entities that are masked; 0 masks none."""
    random_word_prob: Probability = 0.1
    """Fraction of the masked words that are replaced by random ones."""
    unmasked_word_prob: Probability = 0.1
    """Fraction of the masked words that are unchanged."""
    random_entity_prob: Probability = 0.0
    """Fraction of the masked entities that are replaced by random ones."""
    unmasked_entity_prob: Probability = 0.0
    """Fraction of the masked entities that are unchanged."""
    whole_word_masking: bool = True
    """Mask all tokens of a word together."""
    mask_words_in_entity_span: bool = False
    """Mask the words of a masked entity too; they count as masked words."""
    word_only_training: bool = False
    """Train without entities."""

    @model_validator(mode="after")
    def _require_hidden(self) -> MaskSettings:
        for kind in ("word", "entity"):
            both = getattr(self, f"random_{kind}_prob") + getattr(self, f"unmasked_{kind}_prob")
            if both > 1:
                raise SettingsError(f"random_{kind}_prob and unmasked_{kind}_prob are {both:g} together; at most 1 is allowed")
        if not self.masked_lm_prob and (not self.masked_entity_prob or self.word_only_training):
            raise SettingsError("neither words nor entities are masked; raise masked_lm_prob or masked_entity_prob")
        return self


class FreezeSettings(Settings):
    """Parameters that are not trained."""

    fix_bert_weights: bool = False
    """First stage: train only parameters that RoBERTa does not have."""
    freeze_entity_emb: bool = False
    """Freeze the entity table."""
    disable_entity_prediction_bias: bool = False
    """Freeze the biases of the entity predictor."""


class WindowLimits(Settings):
    """Limits of the windows of an article."""

    max_seq_length: Annotated[int, Field(ge=3)] = 512
    """Tokens of a window, special ones included."""
    max_entity_length: Positive = 128
    """Links of a window; later ones are dropped."""
    max_mention_length: Positive = 30
    """Tokens of a link; its span is truncated to them."""
    min_sentence_length: Positive = 5
    """Minimum tokens of a sentence; shorter ones are dropped."""
    abstract_only: bool = False
    """Only the text before the first heading of a page."""
    include_sentences_without_entities: bool = False
    """Keep windows without any link."""
    include_unk_entities: bool = False
    """Keep links to titles outside the vocabulary, as [UNK]."""


class DatasetChoice(Settings):
    """Contents of a dataset."""

    limits: WindowLimits = WindowLimits()
    """Lengths, and which links and sentences are kept."""
    sentence_splitter: str = "rules"
    """``rules`` or an ICU locale."""
    language: str | None = None
    """Language of the titles, for a multilingual vocabulary."""
    max_num_documents: Positive | None = None
    """Number of articles, from the first; None for all."""
    predefined_entities_only: bool = False
    """Only articles whose title is in the vocabulary."""
