"""Types and ranges of the settings of each kind of run; ``defaults/`` has their values and documentation."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import Field, model_validator

from blink.errors import SettingsError
from blink.runs import settings
from blink.runs.fields import Allowed, KeptShare, Natural, NonNegative, Positive, Section, Share

K = TypeVar("K", bound="Settings")
PositiveFloat = Annotated[float, Field(gt=0)]
Dropout = Annotated[float, Field(ge=0, lt=1), Allowed("dropout is a fraction: give numbers below 1, and at least 0")]
LearningRate = Annotated[float, Field(gt=0), Allowed("learning rates must be above 0")]
Widths = Annotated[list[Positive], Field(min_length=1), Allowed("give the width of each layer, such as [256]")]
NegativeKind = Literal["easy", "same_type", "uniform"]


class Settings(settings.Settings):
    """Settings of a run of any kind.

    Attributes:
        kind: kind of the run, one of `KINDS`.
        seed: seed of all random numbers.
        device: cpu, cuda, or auto.
        tracker: where numbers go besides the trace, see `blink.runs.trackers`.
    """

    WRONG_TYPE: ClassVar[str] = "{source} sets {name} to {value}"
    WRONG_CHOICE: ClassVar[str] = "it must be one of"

    kind: str
    seed: int
    device: str
    tracker: Literal["none", "tensorboard", "wandb"]

    @classmethod
    def of(cls: type[K], settings: Settings, owner: object = "this") -> K:
        """Check that ``settings`` are of this kind, and return them.

        Raises:
            SettingsError: they are of another kind; the message names ``owner``.
        """
        if not isinstance(settings, cls):
            kinds = " or ".join(name for name, kind in KINDS.items() if issubclass(kind, cls))
            raise SettingsError(f"{owner} is a run of kind {settings.kind}, not {kinds}; give a run of kind {kinds}")
        return settings


# -- graphs, see defaults/graph.yaml -------------------------------------------------------------------------------------


class GraphFiles(Section):
    """Files of triples in addition to the graph."""

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
    separator: Literal["auto", "tab", "comma", "semicolon", "pipe", "blank"]
    first_line: Literal["auto", "header", "triple"]


class GraphData(GraphFiles):
    """Files of triples."""

    graph: list[str]


class GraphModelSection(Section):
    """Interaction and embedding tables."""

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
    """Loss, optimiser and number of epochs of a run over triples."""

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
    """Negative sampling."""

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
    """Validation and early stopping."""

    every: Positive
    patience: Natural
    delta: NonNegative
    triples: Natural
    metric: Literal["mrr", "hits@1", "hits@3", "hits@10"]


class Ranking(Section):
    """Evaluation by ranking."""

    batch_size: Positive
    chunk: Positive
    triples: Natural
    candidates: Natural


class GraphSections(Settings):
    """Settings of all runs over triples."""

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
    """Words of the vocabulary."""

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
    """Joint training of words and the graph."""

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


class Cells(Section):
    """Recurrent cells.

    Attributes:
        kind: ``LSTM``, or ``BiLSTM`` with a second stack for the backward direction.
        layers: width of each layer, the lowest first.
        keep: fraction of each layer's output that dropout keeps.
    """

    kind: Literal["LSTM", "BiLSTM"]
    layers: Widths
    keep: KeptShare

    @property
    def backward(self) -> bool:
        """Whether there is a backward stack."""
        return self.kind == "BiLSTM"


class Language(Section):
    """The next-word task.

    Attributes:
        softmax: training loss; evaluation always uses the full softmax.
        samples: number of sampled words.
        tied: whether input and output embeddings are tied.
        backward: also train the backward cells to predict the previous word.
    """

    softmax: Literal["full", "sampled"]
    samples: Positive
    tied: bool
    backward: bool


class LanguageTrain(Section):
    """Number of steps and learning rate of a run over text."""

    epochs: Positive
    steps_per_epoch_lm: Natural
    lines: Positive
    shuffle: bool
    learning_rate_lm: LearningRate
    clip: NonNegative
    save_steps: Positive
    log_steps: Positive


class Validation(Section):
    """Validation and early stopping."""

    every: Positive
    lines: Natural
    choose: Literal["loss", "perplexity", "accuracy"]
    patience: Natural
    delta: NonNegative


class LanguageSections(Settings):
    """Settings of all runs over text."""

    data: LanguageData
    vocabulary: Vocabulary
    words: Words
    cells: Cells
    language: Language
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
    """Words of the vocabulary, and the source of their counts."""

    count: Literal["text", "names", "both"]


class Classifier(Section):
    """The triple classifier.

    Attributes:
        hidden: widths of the hidden layers after the cells.
        keep: fraction of the last hidden layer that dropout keeps.
        penalty: weight of the L2 penalty, half the sum of the layers' squared weights.
        balance: weight of true triples in the loss.
        reach_words: whether gradients of its loss reach the word table; in the original they do not.
        entity_width: dimension of entity and relation embeddings; 0 for none.
        entity_keep: fraction of entity embeddings that are kept in a step; the others are set to 0.
        align: weight of the distance between an entity's embedding and the mean of its word vectors.
    """

    hidden: Widths
    keep: KeptShare
    penalty: NonNegative
    balance: PositiveFloat
    reach_words: bool
    entity_width: Natural
    entity_keep: KeptShare
    align: NonNegative


class JointNegatives(Section):
    """Negative sampling, see `blink.kglm.lm.negatives`."""

    kind: NegativeKind
    fewest: Positive
    most: Positive
    both: bool
    redraw: bool
    same_relation: list[str]
    measured: list[NegativeKind]
    measured_seed: int


class JointSection(Section):
    """Joint training of both tasks, see `blink.kglm.lm.schedule`."""

    mode: Literal["alternate", "sum"]
    alpha: Annotated[float, Field(ge=0, le=1), Allowed("it must be from 0 (text alone) to 1 (triples alone)")]
    order: Literal["interleaved", "blocks"]
    every: Positive


class JointTrain(LanguageTrain):
    """Number of steps and learning rates of a run over text and triples."""

    steps_per_epoch_kge: Natural
    triples: Positive
    learning_rate_kge: LearningRate


class JointValidation(Validation):
    """Validation and early stopping."""

    triples: Natural
    keep_both: bool


class JointSettings(LanguageSections):
    """A run of kind joint."""

    kind: Literal["joint"]
    data: JointData
    vocabulary: JointVocabulary
    classifier: Classifier
    negatives: JointNegatives
    joint: JointSection
    train: JointTrain
    validation: JointValidation


KINDS: dict[str, type[Settings]] = {
    "graph": GraphSettings, "lm": LanguageSettings, "joint": JointSettings, "glove": GloveSettings,
}  # fmt: skip
