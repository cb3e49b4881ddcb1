"""A trained model in a folder: weights, what it is made of, its vocabulary, and the ids of its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from blink.errors import CheckpointError, MismatchError, MissingFileError
from blink.files import atomic_open, read_json, write_json
from blink.kglm.lm.model import KGLanguageModel
from blink.kglm.lm.options import Network
from blink.kglm.lm.vocabulary import VOCABULARY_FILE, Vocabulary
from blink.kglm.run import BEST_FOLDER, read_tensors, write_tensors

WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "config.json"
ENTITIES_FILE, RELATIONS_FILE = "entities.txt", "relations.txt"
FORMAT = "kglm-lm-1"


@dataclass(frozen=True)
class Saved:
    """What lies in the folder of a model.

    Attributes:
        model: in evaluation mode, on the CPU.
        vocabulary: its words.
        entities: ids of the rows of its table of entities; empty without one.
        relations: the same of relations.
        figures: what was measured when it was saved.
    """

    model: KGLanguageModel
    vocabulary: Vocabulary
    entities: tuple[str, ...]
    relations: tuple[str, ...]
    figures: Mapping[str, Any]


def save_model(
    folder: Path,
    model: KGLanguageModel,
    vocabulary: Vocabulary,
    entities: Sequence[str] = (),
    relations: Sequence[str] = (),
    figures: Mapping[str, Any] | None = None,
) -> None:
    """Write a model; its configuration comes last, so that a folder that has one is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG_FILE).unlink(missing_ok=True)
    write_tensors(folder / WEIGHTS_FILE, model.state_dict())
    vocabulary.save(folder / VOCABULARY_FILE)
    for name, ids in ((ENTITIES_FILE, entities), (RELATIONS_FILE, relations)):
        with atomic_open(folder / name) as f:
            f.writelines(f"{id_}\n" for id_ in ids)
    config = {"format": FORMAT, "network": model.network.to_dict(), "vocabulary": vocabulary.digest}
    write_json(folder / CONFIG_FILE, {**config, "figures": dict(figures or {})})


def load_model(folder: str | Path) -> Saved:
    """Read a model from its folder, or from that of a run, whose best state is meant.

    Raises:
        MissingFileError: there is no model.
        CheckpointError: it is damaged, or of another kind of run.
        MismatchError: its vocabulary is another one.
    """
    path = Path(folder)
    path = path / BEST_FOLDER if (path / BEST_FOLDER).is_dir() else path
    if not (path / CONFIG_FILE).is_file():
        raise MissingFileError(
            f"{path} holds no language model (no {CONFIG_FILE}); name the folder of a run of kind lm or joint"
        )
    config = read_json(path / CONFIG_FILE)
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise CheckpointError(f"{path} holds no language model of this version; name the folder of a run of kind lm or joint")
    vocabulary = Vocabulary.load(path / VOCABULARY_FILE)
    network = Network.from_dict(config["network"])
    if vocabulary.digest != config["vocabulary"] or len(vocabulary) != network.vocabulary:
        raise MismatchError(
            f"{path / VOCABULARY_FILE} is not the vocabulary of the model beside it; copy the whole folder again"
        )
    with torch.random.fork_rng(devices=[]):
        model = KGLanguageModel(network)
    try:
        model.load_state_dict(read_tensors(path / WEIGHTS_FILE))
    except RuntimeError as error:
        raise CheckpointError(
            f"{path / WEIGHTS_FILE} does not fit {CONFIG_FILE} beside it; copy the whole folder again"
        ) from error
    ids = [(path / name).read_text(encoding="utf-8").splitlines() for name in (ENTITIES_FILE, RELATIONS_FILE)]
    return Saved(model.eval(), vocabulary, tuple(ids[0]), tuple(ids[1]), config["figures"])
