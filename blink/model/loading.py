"""Loads a model: a folder of this project, a folder of the original, or a pretrained encoder as published."""

from __future__ import annotations

from pathlib import Path

from blink.errors import MissingFileError
from blink.files import read_json
from blink.model.biencoder import CONFIG_FILE, BiEncoder
from blink.model.config import ModelConfig
from blink.model.original import OriginalFiles, read_original
from blink.model.pretrained import PACKAGED_ENCODERS

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

ORIGINAL_WEIGHTS = "pytorch_model.bin"
ORIGINAL_SETTINGS = "training_params.txt"


def load_model(path: str | Path, *, context: bool = True, candidate: bool = False) -> BiEncoder:
    """Load a model by what ``path`` is.

    | path | what is loaded |
    | --- | --- |
    | folder written by `blink train` | that model |
    | folder with ``pytorch_model.bin`` and ``training_params.txt`` | an original ELQ or BLINK checkpoint |
    | name of a packaged encoder, or a Hugging Face folder | the encoder as published, without a mention head |

    Raises:
        MissingFileError: there is nothing of that name.
        CheckpointError: it is damaged.
    """
    folder = require_model(path)
    if (folder / ORIGINAL_WEIGHTS).is_file() and (folder / ORIGINAL_SETTINGS).is_file():
        files = OriginalFiles(folder / ORIGINAL_WEIGHTS, folder / ORIGINAL_SETTINGS)
        return read_original(files, context=context, candidate=candidate)
    if str(path) in PACKAGED_ENCODERS or _is_plain_encoder(folder):
        # A fresh head would propose mentions at random.
        return BiEncoder.from_encoder(str(path), ZERO_SHOT.replace(mention_scorer="none"))
    return BiEncoder.from_pretrained(folder, context=context, candidate=candidate)


def require_model(path: str | Path) -> Path:
    """Return ``path`` if it may be a model; nothing in it is read.

    Raises:
        MissingFileError: it is neither a folder nor the name of a packaged encoder.
    """
    if str(path) not in PACKAGED_ENCODERS and not Path(path).is_dir():
        names = ", ".join(PACKAGED_ENCODERS)
        raise MissingFileError(f"{path} is no model folder; give one written by `blink train`, or an encoder: {names}")
    return Path(path)


def _is_plain_encoder(folder: Path) -> bool:
    config = folder / CONFIG_FILE
    if not config.is_file():
        return False
    values = read_json(config)
    return isinstance(values, dict) and "model_type" in values and "aggregation" not in values
