"""Settings of runs: a class for each kind, defaults in one commented file of each, a run file and flags over them.

The defaults file is the manual and holds the values: every setting is there once, with its default and what it does. The
class says type and range. That both name the same settings, `load_settings` finds out whenever it reads them.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from blink.errors import MissingFileError, SettingsError
from blink.runs import settings
from blink.runs.settings import (
    Allowed,
    KeptShare,
    Natural,
    NonNegative,
    Positive,
    Section,
    Share,
    Source,
    from_flags,
    read_settings_file,
)
from blink.runs.settings import choice as choice

DEFAULTS = Path(__file__).resolve().parent / "defaults"
DATA_VARIABLE = "BLINK_DATA"
PositiveFloat = Annotated[float, Field(gt=0)]
Dropout = Annotated[float, Field(ge=0, lt=1), Allowed("dropout is a share: give numbers below 1, and at least 0")]
NegativeKind = Literal["easy", "same_type", "uniform"]


class Settings(settings.Settings):
    """Settings of a run of any kind.

    Attributes:
        kind: of the run, one of `KINDS`.
        seed: of everything random.
        device: cpu, cuda, or auto.
    """

    WRONG_TYPE: ClassVar[str] = "{source} sets {name} to {value}"
    WRONG_CHOICE: ClassVar[str] = "it must be one of"

    kind: str
    seed: int
    device: str

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


# -- graphs, see defaults/graph.yaml -------------------------------------------------------------------------------------


class GraphFiles(Section):
    """Files of triples beside the graph itself."""

    root: str
    valid: str
    test: str
    valid_negatives: str
    test_negatives: str
    entities: str
    relations: str
    valid_share: Share
    test_share: Share
    split_seed: int
    unseen_relations: Literal["error", "drop"]


class GraphData(GraphFiles):
    """Files of triples."""

    graph: list[str]


class GraphModelSection(Section):
    """Interaction and tables."""

    name: str
    dim: Positive
    relation_dim: Natural
    reciprocal: bool
    arguments: dict[str, Any]
    init: Literal["xavier_normal", "xavier_uniform", "normal", "uniform"]
    init_scale: NonNegative
    vectors: str
    vectors_rescaled: bool
    vectors_frozen: bool
    entity_dropout: Dropout
    relation_dropout: Dropout
    normalize: bool
    sparse: bool


class GraphTrain(Section):
    """Loss, optimiser and length of a run over triples."""

    type: Literal["1vsAll", "KvsAll", "negative"]
    loss: str
    epochs: Positive
    batch_size: Positive
    part_size: Natural
    optimizer: Literal["adam", "adagrad", "sgd", "rowwise_adagrad"]
    lr: NonNegative
    lr_factor: float
    lr_patience: int
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    score_scale: float
    margin: float
    temperature: float
    subsampling: bool
    regularizer: Literal["none", "lp", "n3"]
    regularizer_weight: NonNegative
    regularizer_p: float
    regularizer_weighted: bool
    clip: float
    save_epochs: Positive
    log_steps: Positive


class GraphNegatives(Section):
    """Drawn entities."""

    count: Natural
    draw: Literal["uniform", "frequency", "batch"]
    sides: Literal["both", "bernoulli"]
    shared: bool
    filter: bool

    @model_validator(mode="after")
    def _require_a_draw(self) -> GraphNegatives:
        if self.count < 1 and self.draw != "batch":
            raise SettingsError(f"negatives.count is {self.count}; it must be at least 1, or negatives.draw batch")
        return self


class Stop(Section):
    """Validation, and the end of a run."""

    every: Positive
    patience: Natural
    delta: NonNegative
    triples: Natural
    metric: Literal["mrr", "hits@1", "hits@3", "hits@10"]


class Ranking(Section):
    """How triples are ranked."""

    batch_size: Positive
    chunk: Positive


class GraphSections(Settings):
    """What runs over triples share."""

    data: GraphData
    model: GraphModelSection
    train: GraphTrain
    negatives: GraphNegatives
    stop: Stop
    eval: Ranking


class GraphSettings(GraphSections):
    """A run of kind graph."""

    kind: Literal["graph"]


# -- word vectors and graphs, see defaults/glove.yaml --------------------------------------------------------------------


class GloveData(GraphData):
    """Files of triples and of text."""

    text: str
    text_ids: str
    text_words: Natural
    entity_names: str


class Vocabulary(Section):
    """Which words there are."""

    size: Natural
    least_count: Natural
    file: str


class Counts(Section):
    """Co-occurrence counts."""

    window: Positive
    held_out: Annotated[float, Field(ge=0, le=0.5), Allowed("give a share from 0 up to 0.5")]


class GloveWords(Section):
    """Word vectors."""

    dim: Positive
    x_max: Annotated[float, Field(ge=1e-9)]
    power: NonNegative
    lr: NonNegative
    accumulator: NonNegative
    batch_size: Positive
    sparse: bool


class GloveJoint(Section):
    """How words and the graph share a run."""

    alpha: Annotated[float, Field(ge=0, le=1), Allowed("give a share from 0 (words alone) to 1 (the graph alone)")]
    mode: Literal["sum", "alternate"]
    word_steps: NonNegative
    coupling: Literal["soft", "contrastive", "hard", "none"]
    map: Literal["learned", "identity"]
    map_lr: NonNegative
    mu: NonNegative
    batch_size: Positive
    temperature: Annotated[float, Field(ge=1e-6)]
    ways: list[str]


class GloveSettings(GraphSections):
    """A run of kind glove."""

    kind: Literal["glove"]
    data: GloveData
    vocabulary: Vocabulary
    counts: Counts
    words: GloveWords
    joint: GloveJoint


# -- language models, see defaults/lm.yaml and defaults/joint.yaml -------------------------------------------------------


class LanguageData(Section):
    """Files of text."""

    root: str
    text: str
    text_valid: str
    text_test: str
    text_ids: str
    text_valid_ids: str
    text_test_ids: str
    longest: Natural
    text_share: KeptShare
    held_out: Share
    split_seed: int


class Words(Section):
    """The table of word vectors."""

    width: Positive
    init: Literal["random", "neighbours", "file"]
    file: str
    window: Positive
    scale: NonNegative
    learn: bool


class CellsSection(Section):
    """Recurrent cells, see `blink.kglm.lm.options.Cells`."""

    kind: Literal["LSTM", "BiLSTM"]
    layers: list[Positive]
    keep: KeptShare


class LanguageSection(Section):
    """The next-word task, see `blink.kglm.lm.options.Language`."""

    softmax: Literal["full", "sampled"]
    samples: Positive
    tied: bool
    backward: bool


class LanguageTrain(Section):
    """Length and rate of a run over text."""

    epochs: Positive
    steps_per_epoch_lm: Natural
    lines: Positive
    shuffle: bool
    learning_rate_lm: float
    clip: NonNegative
    save_steps: Positive
    log_steps: Positive


class Validation(Section):
    """Validation, and the end of a run."""

    every: Positive
    lines: Natural
    choose: Literal["loss", "perplexity", "accuracy"]
    patience: Natural
    delta: NonNegative


class LanguageSections(Settings):
    """What runs over text share."""

    data: LanguageData
    vocabulary: Vocabulary
    words: Words
    cells: CellsSection
    language: LanguageSection
    train: LanguageTrain
    validation: Validation


class LanguageSettings(LanguageSections):
    """A run of kind lm."""

    kind: Literal["lm"]


class JointData(LanguageData, GraphFiles):
    """Files of text, of triples and of names."""

    graph: str
    apart: bool
    entity_names: str
    relation_names: str


class JointVocabulary(Vocabulary):
    """Which words there are, and where they are counted."""

    count: Literal["text", "names", "both"]


class ClassifierSection(Section):
    """The triple classifier, see `blink.kglm.lm.options.Classifier`."""

    hidden: list[Positive]
    keep: KeptShare
    penalty: NonNegative
    balance: PositiveFloat
    reach_words: bool
    entity_width: Natural
    entity_keep: KeptShare
    align: NonNegative


class JointNegatives(Section):
    """False triples, see `blink.kglm.lm.negatives`."""

    kind: NegativeKind
    fewest: Positive
    most: Positive
    both: bool
    redraw: bool
    same_relation: list[str]
    measured: list[NegativeKind]
    measured_seed: int


class JointSection(Section):
    """How the tasks share a run, see `blink.kglm.lm.schedule`."""

    mode: Literal["alternate", "sum"]
    alpha: Annotated[float, Field(ge=0, le=1), Allowed("it must be from 0 (text alone) to 1 (triples alone)")]
    order: Literal["interleaved", "blocks"]
    every: Positive


class JointTrain(LanguageTrain):
    """Length and rates of a run over text and triples."""

    steps_per_epoch_kge: Natural
    triples: Positive
    learning_rate_kge: float


class JointValidation(Validation):
    """Validation, and the end of a run."""

    triples: Natural
    keep_both: bool


class JointSettings(LanguageSections):
    """A run of kind joint."""

    kind: Literal["joint"]
    data: JointData
    vocabulary: JointVocabulary
    classifier: ClassifierSection
    negatives: JointNegatives
    joint: JointSection
    train: JointTrain
    validation: JointValidation


# -- loading -------------------------------------------------------------------------------------------------------------

KINDS: dict[str, type[Settings]] = {
    "graph": GraphSettings, "lm": LanguageSettings, "joint": JointSettings, "glove": GloveSettings,
}  # fmt: skip


def load_settings(kind: str, file: str | Path | None = None, overrides: Sequence[str] = ()) -> Settings:
    """The defaults of a kind, with a run file and overrides laid over them.

    Args:
        kind: one of `KINDS`.
        file: YAML run file; None takes the defaults.
        overrides: words of a command line, such as ``["--train.lr", "0.1", "--model.dim=64"]``.

    Returns:
        sections as attributes: ``settings.train.lr``.

    Raises:
        SettingsError: an unknown setting (the nearest known is named), or a value of the wrong type or range.
        DataError: the run file is not YAML.
        MissingFileError: there is no such run file.
    """
    choice("the kind of a run", kind, KINDS)
    defaults = DEFAULTS / f"{kind}.yaml"
    sources = [Source(str(defaults), read_settings_file(defaults))]
    if file is not None:
        values = read_settings_file(file)
        if values.get("kind", kind) != kind:
            raise SettingsError(f"{file} is of kind {values['kind']}, not {kind}; name a run file of kind {kind}")
        sources.append(Source(str(file), values))
    return KINDS[kind].load([*sources, from_flags(overrides)])


def kind_of(file: str | Path) -> str:
    """What kind of run a run file describes.

    Raises:
        SettingsError: it does not say, or names none of `KINDS`.
    """
    kind = read_settings_file(file).get("kind")
    if kind is None:
        first, *others = KINDS
        raise SettingsError(
            f"{file} does not say its kind; begin it with, for example, 'kind: {first}' (or {', '.join(others)})"
        )
    return choice(f"kind in {file}", kind, KINDS)


def extra(module: str) -> Any:
    """Import a module that comes with the extra ``kglm``.

    Raises:
        SettingsError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise missing_extra(error) from error


def missing_extra(error: ModuleNotFoundError) -> SettingsError:
    """What to say where a package of the extra is missing."""
    return SettingsError(f"this needs the package {error.name}; install it by: pip install 'blink-linker[kglm]'")


def data_path(name: str, root: str = "") -> Path:
    """Where a file or folder of data is that settings name.

    A path that exists as seen from the working folder is taken as it is; other relative paths are looked for in ``root``, or
    where that is empty in ``$BLINK_DATA``.

    Raises:
        MissingFileError: it is in neither of them.
    """
    path, base = Path(name).expanduser(), root or os.environ.get(DATA_VARIABLE)
    if path.exists():
        return path
    tried = [path] if path.is_absolute() or not base else [path, Path(base).expanduser() / path]
    if tried[-1].exists():
        return tried[-1]
    raise MissingFileError(
        f"there is no {' nor '.join(map(str, tried))}; name the folder of the data by --data DIR (as --data.root DIR) or "
        f"${DATA_VARIABLE}"
    )


def at_least(settings: Settings, section: str, **lowest: float) -> None:
    """Check numbers of a section against their smallest values."""


def write_yaml(path: str | Path, settings: Settings) -> None:
    """Write settings, see `blink.runs.settings.Settings.write`."""
    settings.write(path)
