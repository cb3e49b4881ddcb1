"""The files of a model that are published."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from blink.checksums import CHECKSUMS_FILE
from blink.errors import SettingsError
from blink.hub.names import is_hub_name, local_folder
from blink.hub.publishing import CARD_FILE, Publication, Publishable
from blink.model.config import ModelConfig
from blink.model.folder import (
    ADAPTERS_FILE,
    CONFIG_FILE,
    PACKAGED_ENCODERS,
    TOKENIZER_FILES,
    WEIGHTS_FILE,
    is_original,
    is_plain_encoder,
    read_settings,
)
from blink.model.reranker import RANKER_FILE

if TYPE_CHECKING:
    from blink.model.biencoder import BiEncoder

FILES = (CONFIG_FILE, WEIGHTS_FILE, ADAPTERS_FILE, RANKER_FILE, *TOKENIZER_FILES, CHECKSUMS_FILE, CARD_FILE)
"""Files of a model; what a training leaves beside them, and exports of the encoder, stay where they are."""


class PublishableModel(Publishable):
    """Gives `blink.model.biencoder.BiEncoder` its `push_to_hub`."""

    def _publication(self) -> contextlib.AbstractContextManager[Publication]:
        model = cast("BiEncoder", self)
        return model_publication(model, partial(type(model).from_pretrained, candidate=True))


@contextlib.contextmanager
def model_publication(model: BiEncoder | str | Path, load: Callable[[Path], BiEncoder]) -> Iterator[Publication]:
    """The files of a model; they exist inside the block.

    A model that adapts an encoder in a folder of this machine is published whole, since its folder is nowhere else.

    Args:
        model: in memory, or the folder of a stored one, or its name on the hub.
        load: opens a folder with both encoders.

    Raises:
        SettingsError: it is a checkpoint of the original, a packaged encoder, or adapters in memory that were merged.
    """
    with tempfile.TemporaryDirectory(prefix="blink-model-") as temporary:
        if not isinstance(model, str | Path):
            model.save_pretrained(temporary)
            folder = Path(temporary)
        else:
            folder = _require_own_format(model)
        config = _config(folder)
        if config.base is not None and config.base not in PACKAGED_ENCODERS and not is_hub_name(config.base):
            whole, folder = load(folder), Path(temporary) / "whole"
            whole.config = whole.config.replace(base=None, base_sha256=None, adapter_rank=0)
            whole.save_pretrained(folder)
        files = {name: folder / name for name in FILES if (folder / name).is_file()}
        yield Publication("model", files, _facts(_config(folder), (folder / RANKER_FILE).is_file()))


def _require_own_format(model: str | Path) -> Path:
    if is_plain_encoder(Path(model)):
        raise SettingsError(f"{model} is an encoder as it was published, without anything of BLINK; train a model on it")
    folder = local_folder(model)
    if is_original(folder):
        raise SettingsError(f"{folder} is a checkpoint of the original, in a format that can run code; load and save it first")
    return folder


def _config(folder: Path) -> ModelConfig:
    return ModelConfig.from_dict(read_settings(folder))


def _facts(config: ModelConfig, has_reranker: bool) -> dict[str, object]:
    return {
        "encoder": config.base or "stored whole",
        "fingerprint of the candidate encoder": f"`{config.candidate_fingerprint}`",
        "longest mention, tokens": config.max_mention_length,
        "reads letter case": "yes" if config.reads_case else "no",
        "reranker": "yes" if has_reranker else "no",
        "precision of the stored weights": "fp16 (adapters)" if config.base else "fp32",
    }
