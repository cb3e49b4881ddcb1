"""Saving and loading a trained model: weights, configuration, vocabulary, and ids of its embedding tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from blink.errors import CheckpointError, MismatchError, MissingFileError
from blink.files import atomic_open, read_json, write_json
from blink.input_files import read_lines_of
from blink.kglm.lm.model import KGLanguageModel, Network
from blink.kglm.lm.vocabulary import VOCABULARY_FILE, Vocabulary
from blink.kglm.run import CHECKED, read_tensors, require_stored, write_tensors
from blink.replacing import complete, replacing
from blink.runs.folder import BEST_FOLDER

WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "config.json"
ENTITIES_FILE, RELATIONS_FILE = "entities.txt", "relations.txt"
FORMAT = "kglm-lm-1"


@dataclass(frozen=True)
class SavedModel:
    """A model loaded from its folder.

    Attributes:
        model: in evaluation mode, on the CPU.
        vocabulary: its vocabulary.
        entities: entity ids by row of the entity table; empty without a table.
        relations: relation ids by row of the relation table; empty without a table.
        figures: metrics at the time of saving.
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
    """Write a model with checksums of its files, which replace earlier ones together."""
    with replacing(folder) as work:
        write_tensors(work / WEIGHTS_FILE, model.state_dict())
        vocabulary.save(work / VOCABULARY_FILE)
        for name, ids in ((ENTITIES_FILE, entities), (RELATIONS_FILE, relations)):
            with atomic_open(work / name) as f:
                f.writelines(f"{id_}\n" for id_ in ids)
        config = {"format": FORMAT, "network": model.network.to_dict(), "vocabulary": vocabulary.digest, CHECKED: True}
        write_json(work / CONFIG_FILE, {**config, "figures": dict(figures or {})})


def load_model(folder: str | Path) -> SavedModel:
    """Load a model from its folder, or the best model of a run from the folder of the run.

    Raises:
        MissingFileError: the folder has no model.
        CheckpointError: the model is damaged, or from another kind of run.
        MismatchError: the vocabulary file does not belong to the model.
    """
    path = Path(folder)
    path = path / BEST_FOLDER if (path / BEST_FOLDER).is_dir() else path
    complete(path)
    if not (path / CONFIG_FILE).is_file():
        raise MissingFileError(
            f"{path} holds no language model (no {CONFIG_FILE}); name the folder of a run of kind lm or joint"
        )
    config = read_json(path / CONFIG_FILE)
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise CheckpointError(f"{path} holds no language model of this version; name the folder of a run of kind lm or joint")
    require_stored(path, config)
    vocabulary = Vocabulary.load(path / VOCABULARY_FILE)
    network = Network.model_validate(config["network"])
    if vocabulary.digest != config["vocabulary"] or len(vocabulary) != network.vocabulary:
        raise MismatchError(f"{path / VOCABULARY_FILE} is not the vocabulary of this model; copy the whole folder again")
    with torch.random.fork_rng(devices=[]):
        model = KGLanguageModel(network)
    try:
        model.load_state_dict(read_tensors(path / WEIGHTS_FILE))
    except RuntimeError as error:
        raise CheckpointError(f"{path / WEIGHTS_FILE} does not match its {CONFIG_FILE}; copy the whole folder again") from error
    ids = [read_lines_of(path / name, "copy the whole folder again") for name in (ENTITIES_FILE, RELATIONS_FILE)]
    return SavedModel(model.eval(), vocabulary, tuple(ids[0]), tuple(ids[1]), config["figures"])
