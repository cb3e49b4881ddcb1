"""Reads BERT's tokenizer from its files, without transformers, whose import takes longer than linking a text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import models, normalizers, pre_tokenizers

from blink.errors import CheckpointError
from blink.files import read_json
from blink.input_files import require_file, utf8_path
from blink.model.folder import TOKENIZER_FILE

SETTINGS_FILE = "tokenizer_config.json"
_CLASSES = frozenset(
    name + suffix for name in ("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer") for suffix in ("", "Fast")
)
_TYPES = frozenset({"bert", "distilbert", "electra"})
"""Values of ``model_type`` whose tokenizer transformers builds as `BertTokenizer`, whatever the normalizer in the file."""
_SPECIAL = {"cls": "[CLS]", "sep": "[SEP]", "pad": "[PAD]", "unk": "[UNK]", "mask": "[MASK]"}
LONGEST_WORD = 100
"""Characters of a word that is looked up in the vocabulary; BERT reads longer ones as unknown."""


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of the tokens that frame and pad an input, and of the unknown token, where there is one."""

    cls: int
    sep: int
    pad: int
    unk: int | None

    @classmethod
    def of(
        cls, *, cls_: tuple[int | None, ...], sep: tuple[int | None, ...], pad: int | None, unk: int | None
    ) -> SpecialTokens:
        """The first of several choices for the begin and the end of a text.

        Raises:
            CheckpointError: there is none.
        """
        first = [next((int(i) for i in choices if i is not None), None) for choices in (cls_, sep)]
        if first[0] is None or first[1] is None:
            raise CheckpointError("the tokenizer has no token for the beginning or end of a text; give a BERT-like encoder")
        return SpecialTokens(first[0], first[1], 0 if pad is None else int(pad), unk)


def read_wordpiece(folder: Path) -> tuple[tokenizers.Tokenizer, SpecialTokens] | None:
    """Read a tokenizer of BERT as transformers does: words from ``tokenizer.json``, the rest as the settings say.

    Returns:
        the tokenizer and its special tokens, or None where the folder holds another kind, or more than BERT's special tokens.

    Raises:
        Exception: of the tokenizers library, for a damaged file.
    """
    settings = _settings(folder)
    if settings is None:
        return None
    path = require_file(folder / TOKENIZER_FILE, "copy the model folder again")
    tokenizer = tokenizers.Tokenizer.from_file(utf8_path(path))
    names = {kind: _content(settings.get(f"{kind}_token", default)) for kind, default in _SPECIAL.items()}
    ids = {kind: tokenizer.token_to_id(name) for kind, name in names.items()}
    added = tokenizer.get_added_tokens_decoder()
    if not isinstance(tokenizer.model, models.WordPiece) or {t.content for t in added.values()} != set(names.values()):
        return None
    if any(token.lstrip or token.rstrip or token.single_word or token.normalized for token in added.values()):
        return None
    if not {_content(token) for token in settings.get("added_tokens_decoder", {}).values()} <= set(names.values()):
        return None
    tokenizer.model.max_input_chars_per_word = LONGEST_WORD
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
        strip_accents=settings.get("strip_accents"),
        lowercase=settings.get("do_lower_case", True),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer, SpecialTokens.of(cls_=(ids["cls"],), sep=(ids["sep"],), pad=ids["pad"], unk=ids["unk"])


def _settings(folder: Path) -> Mapping[str, Any] | None:
    """The settings of a tokenizer of BERT; None where it is another, or may be."""
    if not all((folder / name).is_file() for name in (TOKENIZER_FILE, SETTINGS_FILE)):
        return None
    settings = read_json(folder / SETTINGS_FILE)
    config = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    is_bert = isinstance(settings, dict) and settings.get("tokenizer_class") in _CLASSES
    kind = config.get("model_type", "bert") if isinstance(config, dict) else None
    return settings if is_bert and kind in _TYPES else None


def _content(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token)
