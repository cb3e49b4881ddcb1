"""Where the original's commands read their data and write their runs and logs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blink.errors import DataError, MissingFileError, SettingsError

TEXTS = {
    "text": ("train_selected.txt.gz", "train_selected.txt", "train.txt.gz", "train.txt", "train"),
    "text_valid": (
        "dev_selected.txt.gz",
        "dev_selected.txt",
        "valid.txt.gz",
        "valid.txt",
        "dev.txt.gz",
        "dev.txt",
        "dev",
        "valid",
    ),
    "text_test": ("test_selected.txt.gz", "test_selected.txt", "test.txt.gz", "test.txt", "test"),
}
"""Setting -> names of the file or folder that it may be, the original's first."""
NAMES = {"entity_names": ("names.tsv", "entity.jsonl"), "relation_names": ("relations.tsv", "relations.json")}
PICKLES = ("Sample_data_lm_24.pkl", "dev_vec_lm_dict.pkl", "test_vec_lm_dict.pkl", "dict_wikifact_selected.pkl")
TRIPLES = tuple(f"train{suffix}" for suffix in (".txt", ".tsv", ".txt.gz", ".tsv.gz"))
SHARE = 0.1
"""Of triples in one file, validation and test each get this share, as in the original."""


@dataclass(frozen=True)
class Folders:
    """Where a command of the original's writes, below the location of its data.

    Attributes:
        models: folder of runs.
        logs: folder of logs.
    """

    models: str
    logs: str

    def run(self, location: str, name: str) -> Path:
        """The folder of a run."""
        return Path(location) / self.models / name

    def log(self, location: str, name: str) -> Path:
        """A log."""
        return Path(location) / self.logs / f"{name}.log"


FOLDERS = {
    "lm": Folders("model_LM", "run_logs_LM"),
    "kge": Folders("model_kge", "run_log_kge"),
    "kge_lm": Folders("model_kge_lm", "run_log_kge_lm"),
}


def text_settings(location: str) -> dict[str, Any]:
    """Settings that name the texts in a folder.

    Raises:
        MissingFileError: there is no training text.
    """
    paths = {key: path for key, names in TEXTS.items() if (path := _first(location, names)) is not None}
    if "text" not in paths and any(Path(location).glob("*.sm")):
        paths["text"] = Path(location)
    if "text" not in paths:
        expected = f"{TEXTS['text'][0]}, train.txt, or .sm files"
        raise MissingFileError(f"{location} holds no training text; expected {expected}, give another --data_location_lm")
    return {f"data.{key}": str(path.absolute()) for key, path in paths.items()}


def triple_settings(location: str) -> dict[str, Any]:
    """Settings that name the triples in a folder, and their names.

    Raises:
        DataError: there are only the original's pickles.
        MissingFileError: there are none.
    """
    folder = Path(location)
    facts = any(folder.glob("*.en")) if folder.is_dir() else False
    split_files = any((folder / name).is_file() for name in TRIPLES)
    if not split_files and not facts:
        pickles = [name for name in PICKLES if (folder / name).is_file()]
        if pickles:
            how = "convert them once, as the end of `python -m blink.kglm.train_kge --help` shows"
            raise DataError(f"{folder} holds pickles ({pickles[0]}), which could run code when they are read; {how}")
        raise MissingFileError(
            f"{location} holds no triples; expected train.tsv or .en facts, give another --data_location_kge"
        )
    settings: dict[str, Any] = {"data.graph": str(folder.absolute())}
    for key, names in NAMES.items():
        if (path := _first(f"{location}/", names)) is not None:
            settings[f"data.{key}"] = str(path.absolute())
    for split in ("valid", "test"):
        if not any((folder / name.replace("train", split)).is_file() for name in TRIPLES):
            settings[f"data.{split}_share"] = SHARE
    return settings


def require_location(value: str | None, flag: str) -> str:
    """A location that a command cannot do without.

    Raises:
        SettingsError: it is not given.
        MissingFileError: it is no folder.
    """
    if value is None:
        raise SettingsError(f"--{flag} is not given; name the folder of the data")
    if not Path(value).is_dir() and not Path(value).parent.is_dir():
        raise MissingFileError(f"there is no folder {value}; name that of the data by --{flag}")
    return value


def _first(location: str, names: tuple[str, ...]) -> Path | None:
    """The first of several names that is there: in a folder, or behind a prefix, as the original puts them together."""
    for name in names:
        for path in (Path(location) / name, Path(f"{location}{name}")):
            if path.is_file() or (path.is_dir() and any(path.glob("*.sm"))):
                return path
    return None
