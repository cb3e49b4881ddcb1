"""Build and initialize a network from settings and inputs."""

from __future__ import annotations

from collections.abc import Callable

import torch

from blink.errors import SettingsError
from blink.kglm.config import data_path
from blink.kglm.lm.inputs import Inputs
from blink.kglm.lm.model import KGLanguageModel, Network
from blink.kglm.lm.schedule import LANGUAGE, TRIPLES, Schedule
from blink.kglm.lm.vectors import neighbour_vectors, read_vectors, rescaled
from blink.kglm.lm.vocabulary import PAD
from blink.kglm.settings import JointSettings, LanguageSections


def schedule_of(settings: LanguageSections) -> Schedule:
    """The schedule of a run's tasks."""
    if not isinstance(settings, JointSettings):
        return Schedule(settings.train.steps_per_epoch_lm, 0, alpha=0.0)
    train, joint = settings.train, settings.joint
    return Schedule(
        train.steps_per_epoch_lm, train.steps_per_epoch_kge, joint.alpha, joint.mode, order=joint.order, every=joint.every
    )


def network_of(settings: LanguageSections, inputs: Inputs) -> Network:
    """The network configuration of a run; a task without steps is left out."""
    tasks, words = schedule_of(settings).tasks, settings.words
    classifier = JointSettings.of(settings).classifier if TRIPLES in tasks else None
    with_tables = classifier is not None and classifier.entity_width and inputs.triples is not None
    rows = [len(ids) for ids in inputs.triples.table_ids] if with_tables and inputs.triples else [0, 0]
    return Network(
        vocabulary=len(inputs.vocabulary),
        width=words.width,
        cells=settings.cells,
        language=settings.language if LANGUAGE in tasks else None,
        classifier=classifier,
        learn_words=words.learn,
        scale=words.scale or 1.0,
        entities=rows[0],
        relations=rows[1],
    )


def new_model(settings: LanguageSections, inputs: Inputs, say: Callable[[str], None]) -> KGLanguageModel:
    """An initialized network, with the word vectors of ``words.init``.

    Args:
        settings: settings of the run.
        inputs: its vocabulary and training text.
        say: called with a message about the source of the word vectors.
    """
    words = settings.words
    if words.scale == 0 and words.init != "file":
        raise SettingsError(f"words.scale is {words.scale}; it must be above 0, or 0 with words.init file")
    model = KGLanguageModel(network_of(settings, inputs), settings.seed)
    if words.init == "random":
        return model
    if words.init == "file":
        path = data_path(words.file, settings.data.root)
        vectors, matched = read_vectors(path, inputs.vocabulary, words.width)
        say(f"{matched:,} of {len(inputs.vocabulary.words):,} words have a vector in {path}")
    else:
        if "train" not in inputs.texts:
            raise SettingsError("words.init neighbours takes vectors from the training text, and data.text names none")
        vectors = neighbour_vectors(inputs.texts["train"], words.width, window=words.window, seed=settings.data.split_seed)
        say(f"{words.width}-dimensional word vectors from co-occurrences in the training text")
    if words.scale:
        vectors = rescaled(vectors, words.scale)
    with torch.no_grad():
        model.encoder.words.weight.copy_(torch.from_numpy(vectors))
        model.encoder.words.weight[PAD] = 0
    return model
