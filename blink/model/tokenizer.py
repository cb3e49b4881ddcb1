"""Tokens with character offsets, and the token inputs of contexts and entities."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tokenizers
from tokenizers import Regex, decoders, pre_tokenizers

from blink.data.records import Entity
from blink.errors import BlinkError, CheckpointError, DataError, MissingFileError, first_line
from blink.extras import extras_for
from blink.files import require_file
from blink.model.breaks import blanks_as_spaces
from blink.model.config import ModelConfig
from blink.model.folder import encoder_folder
from blink.model.letter_case import STRIDE, word_cases
from blink.model.wordpiece import SpecialTokens, read_wordpiece

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_VOCABULARIES = ("tokenizer.json", "vocab.*", "*.model", "*.tiktoken")
"""Patterns of the files that hold a vocabulary; transformers makes up a tokenizer without one."""
SYMBOL = r"[\p{So}\p{Sk}\p{Cs}\p{Co}]"
TITLE_SEPARATOR = "[unused2]"
"""Separates title and description of an entity (BLINK, Wu et al. 2020); ``[SEP]`` where the vocabulary lacks it."""


@dataclass(frozen=True)
class Encoding:
    """A tokenized text.

    Attributes:
        ids: without special tokens. *Shape:* (n,), int64.
        offsets: characters ``[start, end)`` of each token in the caller's string. *Shape:* (n, 2), int64.
        cases: letter case of each token's word, see `blink.model.letter_case`; None where the model does not read it.
            *Shape:* (n,), int64.
    """

    ids: np.ndarray
    offsets: np.ndarray
    cases: np.ndarray | None = None

    @cached_property
    def codes(self) -> np.ndarray:
        """The ids as the context encoder reads them, with the letter case. *Shape:* (n,), int64."""
        return self.ids if self.cases is None else self.ids + STRIDE * self.cases

    def tokens_of(self, start: int, end: int) -> tuple[int, int] | None:
        """Tokens ``[first, past)`` that overlap characters ``[start, end)``; None where none does, as in blanks."""
        overlapping = np.flatnonzero((self.offsets[:, 0] < end) & (self.offsets[:, 1] > start))
        return (int(overlapping[0]), int(overlapping[-1]) + 1) if len(overlapping) else None


class Tokenizer:
    """Splits texts into tokens with character offsets, and never truncates on its own.

    Attributes:
        continues: for each id, whether the token continues the word before it (``##``; in vocabularies that mark where
            words begin instead, what lacks the mark and begins with a letter or digit). *Shape:* (vocabulary,), bool.

    Args:
        backend: of the tokenizers library; it is changed.
        special: tokens that frame and pad an input.
        source: folder or name that transformers loads the same tokenizer from, or such a tokenizer.
    """

    def __init__(self, backend: tokenizers.Tokenizer, special: SpecialTokens, source: str | PreTrainedTokenizerBase) -> None:
        self._backend, self._source = backend, source
        self._isolates = False
        self._reads_case = False
        self._separates_blanks = False
        backend.no_truncation()
        backend.no_padding()
        self.cls_id, self.sep_id, self.pad_id = special.cls, special.sep, special.pad
        self._always, self._joins, self._ends = _word_marks(self._tokens())
        self.continues = self._always | self._joins
        separator = backend.token_to_id(TITLE_SEPARATOR)
        self.title_separator_id = self.sep_id if separator in (None, special.unk) else int(separator)

    @property
    def transformers_tokenizer(self) -> PreTrainedTokenizerBase:
        """The same tokenizer of transformers, which takes seconds to import."""
        if isinstance(self._source, str):
            self._source = _from_transformers(self._source)
        return self._source

    @property
    def fingerprint(self) -> str:
        """Hash of the vocabulary, in order."""
        return hashlib.sha256("\n".join(self._tokens()).encode()).hexdigest()

    def _tokens(self) -> list[str]:
        return [str(self._backend.id_to_token(i)) for i in range(len(self))]

    @classmethod
    def from_pretrained(cls, name: str | Path) -> Tokenizer:
        """Load the tokenizer of an encoder by name or folder.

        BERT's are read from their files; others take transformers.

        Raises:
            MissingFileError: there is none.
            CheckpointError: it cannot be read.
        """
        folder = encoder_folder(str(name))
        if not any(path.is_file() for pattern in _VOCABULARIES for path in Path(folder).glob(pattern)):
            raise MissingFileError(f"{folder} holds no tokenizer ({', '.join(_VOCABULARIES)}); copy the model folder again")
        try:
            read = read_wordpiece(Path(folder))
            return cls.of(_from_transformers(folder)) if read is None else cls(*read, folder)
        except BlinkError:
            raise
        except Exception as error:  # the tokenizers library raises nothing more special for a damaged file
            reason = first_line(error)
            raise CheckpointError(
                f"cannot load the tokenizer of {str(name)!r} ({reason}); give a whole model folder, or hf://OWNER/NAME"
            ) from error

    @classmethod
    def from_vocabulary(cls, vocabulary: str | Path, lowercase: bool = True) -> Tokenizer:
        """BERT's tokenizer from a ``vocab.txt``.

        Raises:
            MissingFileError: there is no such file.
            CheckpointError: it is damaged.
        """
        require_file(vocabulary, "put the model's vocab.txt there")
        with extras_for("tokenizers of a vocab.txt alone"):
            from transformers import BertTokenizer

            from blink.model.pretrained import quiet_transformers

        try:
            with quiet_transformers():
                return cls.of(BertTokenizer(vocab=str(vocabulary), do_lower_case=lowercase))
        except BlinkError:
            raise
        except Exception as error:  # the tokenizers library raises nothing more special for a damaged file
            fault = f"{vocabulary} is no vocabulary ({first_line(error)})"
            raise CheckpointError(f"{fault}; copy the model's file again") from error

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
        """Wrap a fast tokenizer of transformers.

        Raises:
            CheckpointError: it has no tokens that begin and end a text.
        """
        special = SpecialTokens.of(
            cls_=(tokenizer.cls_token_id, tokenizer.bos_token_id),
            sep=(tokenizer.sep_token_id, tokenizer.eos_token_id),
            pad=tokenizer.pad_token_id,
            unk=tokenizer.unk_token_id,
        )
        return cls(tokenizer.backend_tokenizer, special, tokenizer)

    def configure(self, config: ModelConfig) -> None:
        """Tokenize as a model needs it."""
        if config.isolate_symbols:
            self.isolate_symbols()
        if config.reads_case:
            self.read_case()
        if config.hard_breaks:
            self.separate_blanks()

    def isolate_symbols(self) -> None:
        """Split before and after every symbol, such as an emoji.

        BERT splits at spaces and punctuation only: a word followed by an emoji becomes one unknown token.
        """
        if not self._isolates:
            split = pre_tokenizers.Split(Regex(SYMBOL), "isolated")
            self._backend.pre_tokenizer = pre_tokenizers.Sequence([split, self._backend.pre_tokenizer])
            self._isolates = True

    def read_case(self) -> None:
        """Report the letter case of the words of texts."""
        self._reads_case = True

    def separate_blanks(self) -> None:
        """Let all blanks separate the words of texts, see `blanks_as_spaces`; the inputs of entities stay as they are."""
        self._separates_blanks = True

    def __len__(self) -> int:
        return int(self._backend.get_vocab_size(with_added_tokens=True))

    def require_known(self, ids: Sequence[int]) -> None:
        """Check ids that were stored elsewhere.

        Raises:
            DataError: one is not in the vocabulary.
        """
        wrong = next((i for i in ids if not 0 <= i < len(self.continues)), None)
        if wrong is not None:
            problem = f"token id {wrong} is none of this model's, which are 0 to {len(self.continues) - 1}"
            raise DataError(f"{problem}; give the model that the file was made for, or texts without stored ids")

    def inside_words(self, ids: np.ndarray) -> np.ndarray:
        """Which tokens continue a word that begins before them. ``ids`` (or codes) and result: (batch, seq), int64 and bool."""
        ids = ids % STRIDE
        inside = self._always[ids]
        inside[:, 1:] |= self._joins[ids[:, 1:]] & self._ends[ids[:, :-1]]
        return inside

    def save(self, folder: str | Path) -> None:
        """Write the tokenizer's files into ``folder``."""
        self.transformers_tokenizer.save_pretrained(str(folder))

    def tokenize(self, texts: Sequence[str]) -> list[Encoding]:
        """Tokenize texts.

        Raises:
            DataError: a text holds half of a surrogate pair, which no encoding of text allows.
        """
        if self._separates_blanks:
            texts = [blanks_as_spaces(text) if isinstance(text, str) else text for text in texts]
        return self._tokenize(texts)

    def _tokenize(self, texts: Sequence[str]) -> list[Encoding]:
        try:
            encodings = self._backend.encode_batch(list(texts), add_special_tokens=False)
        except (UnicodeEncodeError, TypeError) as error:
            raise DataError(_undecodable(texts)) from error
        return [self._encoding(text, e.ids, e.offsets) for text, e in zip(texts, encodings, strict=True)]

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids alone, without the offsets, which take longer than the ids."""
        try:
            encodings = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        except (UnicodeEncodeError, TypeError) as error:
            raise DataError(_undecodable(texts)) from error
        return [e.ids for e in encodings]

    def _encoding(self, text: str, ids: list[int], offsets: list[tuple[int, int]]) -> Encoding:
        encoding = Encoding(np.asarray(ids, dtype=np.int64), np.asarray(offsets, dtype=np.int64).reshape(-1, 2))
        if not self._reads_case:
            return encoding
        return replace(encoding, cases=word_cases(text, encoding.offsets, self.inside_words(encoding.ids[None])[0]))

    def decode(self, ids: Sequence[int]) -> str:
        """Text of tokens (ids or codes), with the spaces that tokenisation put before punctuation removed."""
        tokens = (str(self._backend.id_to_token(int(i) % STRIDE)) for i in ids)
        return tidy(" ".join(tokens).replace(" ##", "").strip())

    def entity_ids(self, entities: Sequence[Entity], fields: str, length: int) -> list[list[int]]:
        """Candidate inputs ``[CLS] title [unused2] (aliases [unused2]) text [SEP]``, at most ``length`` ids each, unpadded.

        Only what precedes ``[SEP]`` is truncated, the description before the title.
        """
        encodings = self._ids([value for entity in entities for value in entity_texts(entity, fields, length)])
        rows = []
        for i in range(0, len(encodings), 3):
            title, aliases, text = encodings[i : i + 3]
            ids = [*title, self.title_separator_id]
            if aliases:
                ids += [*aliases, self.title_separator_id]
            rows.append([self.cls_id, *(ids + text)[: length - 2], self.sep_id])
        return rows


def entity_texts(entity: Entity, fields: str, length: int) -> tuple[str, str, str]:
    """What candidate inputs of at most ``length`` ids are made of: title, aliases where ``fields`` has them, text."""
    aliases = ", ".join(entity.aliases) if fields == "title_aliases_text" else ""
    # A description has about five characters a token: text far beyond the limit need not be tokenized.
    return entity.title, aliases, entity.text.strip()[: 16 * length]


def pad(rows: Sequence[Sequence[int]], pad_id: int, length: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Stack id lists of different length.

    Returns:
        ids and the mask of real tokens. *Shape:* (len(rows), longest or ``length``), int64 and bool.
    """
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    width = length or int(lengths.max(initial=1))
    mask = np.arange(width) < lengths[:, None]
    ids = np.full((len(rows), width), pad_id, dtype=np.int64)
    ids[mask] = np.concatenate([np.asarray(r, dtype=np.int64) for r in rows]) if len(rows) else 0
    return ids, mask


TIDY = ((" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"), (" 's", "'s"),
        (" 've", "'ve"), (" 're", "'re"))  # fmt: skip


def tidy(text: str) -> str:
    """Undo the spaces of tokenised English, by the replacements the original's release of transformers makes, in order."""
    for spaced, joined in TIDY:
        text = text.replace(spaced, joined)
    return text


def _from_transformers(name: str) -> PreTrainedTokenizerBase:
    with extras_for("tokenizers other than BERT's"):
        from transformers import AutoTokenizer

        from blink.model.pretrained import LOCAL, quiet_transformers

    with quiet_transformers():
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(name, **LOCAL)
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    return tokenizer


def _word_marks(tokens: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How each token of a vocabulary relates to the words of a text.

    BERT marks tokens that continue a word (``##``). Byte-level BPE and SentencePiece mark the start of a word (``Ġ``, ``▁``),
    but not at the start of a text or after punctuation; there a token continues a word where letters or digits meet.

    Returns:
        whether it always continues the word before it, whether it does if a letter or digit ends that, and whether it
        ends in a letter or digit. *Shape:* (vocabulary,), bool, each.
    """
    none = np.zeros(len(tokens), dtype=bool)
    if any(t.startswith("##") for t in tokens):
        return np.array([t.startswith("##") for t in tokens]), none, none
    texts, always = [t.replace("▁", " ") for t in tokens], none
    if any(t.startswith("Ġ") for t in tokens):
        decode = decoders.ByteLevel().decode
        texts = [decode([t]) for t in tokens]
        # Parts of a character: the byte 0xC3, "Ã" in this alphabet, is one only with the rest of one behind it.
        always = np.array([not decode([f"Ã{t}"]).startswith("\ufffd") for t in tokens])
    return always, np.array([t[:1].isalnum() for t in texts]), np.array([t[-1:].isalnum() for t in texts])


def _undecodable(texts: Sequence[str]) -> str:
    for number, text in enumerate(texts, 1):
        if not isinstance(text, str):
            return f"text {number} is {type(text).__name__}, not a string"
        i = next((k for k, c in enumerate(text) if "\ud800" <= c <= "\udfff"), None)
        if i is not None:
            return f"text {number} holds a lone surrogate (U+{ord(text[i]):04X}) at character {i}; pass well-formed Unicode"
    return "a text cannot be read as Unicode"
