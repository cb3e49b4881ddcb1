"""The positional arguments of the original's three shell scripts: tables, value classes, and the folders they name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from blink.cluster.runs import WHOLE_RUN
from blink.cluster.settings import ClusterSettings
from blink.errors import SettingsError
from blink.model.config import AGGREGATIONS, MENTION_SCORERS

NO_AGGREGATION = ("none", "none_no_mentions")
"""Of the first no flag at all comes, of the second ``--no_mention_bounds`` alone."""
PRETRAIN = "pretrain"
"""The data set with another default batch, and less frequent validation."""
TO_THE_END = -1
"""As the end of a chunk: the last row."""


@dataclass(frozen=True)
class Argument:
    """One positional argument.

    Attributes:
        name: as the original's script calls it, and as its field.
        about: its meaning, for messages.
        read: parses its text; raises ValueError, with the allowed values.
        default: value where it is omitted or empty; None if it is required.
    """

    name: str
    about: str
    read: Callable[[str], Any] = str
    default: str | None = None


def _one_of(*allowed: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in allowed:
            raise ValueError(", ".join(allowed))
        return text

    return read


def _truth(text: str) -> bool:
    return _one_of("true", "false")(text) == "true"


def _whole(least: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise ValueError(f"a whole number of at least {least}")
        return value

    return read


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ValueError("a probability, from 0 to 1")
    return value


def _name(text: str) -> str:
    if text in (".", "..") or "/" in text:
        raise ValueError("a name without slashes")
    return text


_aggregation = _one_of(*(a for a in AGGREGATIONS if a != "cls"), *NO_AGGREGATION)
_EPOCH = "epoch, from 0; -1 for the model of the whole run"

MODEL_ARGUMENTS = {
    "data": Argument("data", "data set", _name),
    "mention_agg_type": Argument("mention_agg_type", "how tokens become a mention vector", _aggregation),
    "joint": Argument("joint_mention_detection", "whether mentions are found by the model", _truth),
    "context_length": Argument("context_length", "longest text, in tokens", _whole(3), "128"),
    "load": Argument("load_saved_cand_encs", "whether entity vectors are those of BLINK, and stay", _truth),
    "adversarial": Argument("adversarial", "whether negatives are mined", _truth),
    "size": Argument("model_size", "size of BERT, such as base or large", _name),
    "scoring": Argument("mention_scoring_method", "head that scores mentions", _one_of(*MENTION_SCORERS)),
}
"""Arguments that two scripts share, and that name the folder of a run."""

TRAIN_ARGUMENTS = (
    MODEL_ARGUMENTS["data"],
    MODEL_ARGUMENTS["mention_agg_type"],
    Argument("objective", "train, predict (encode entities) or both", _one_of("train", "predict", "both"), "both"),
    Argument("batch_size", "texts, or entities, at once", _whole(1), ""),
    MODEL_ARGUMENTS["joint"],
    MODEL_ARGUMENTS["context_length"],
    MODEL_ARGUMENTS["load"],
    MODEL_ARGUMENTS["adversarial"],
    MODEL_ARGUMENTS["size"],
    MODEL_ARGUMENTS["scoring"],
    Argument("chunk_start", "first entity that predict encodes", _whole(0), "0"),
    Argument("chunk_end", "entity before which predict ends; -1 for the last", _whole(TO_THE_END), "1000000"),
    Argument("epoch", f"{_EPOCH}; training continues after it", _whole(WHOLE_RUN), str(WHOLE_RUN)),
    Argument("eval_batch_size", "texts at once in validation", _whole(1), "32"),
)
"""``examples/train_biencoder.sh``. The default of batch_size depends on data, see `TrainArguments`."""

ENCODE_ARGUMENTS = (
    *(MODEL_ARGUMENTS[n] for n in ("data", "mention_agg_type", "joint")),
    Argument("context_length", MODEL_ARGUMENTS["context_length"].about, _whole(3)),
    *(MODEL_ARGUMENTS[n] for n in ("load", "adversarial", "size")),
    Argument("epoch", _EPOCH, _whole(WHOLE_RUN)),
)
"""``run_slurm.sh``; it has no defaults."""

FINAL_THRESHOLDING = ("joint", "joint_0", "top_joint_by_mention", "top_entity_by_mention")
"""Decoding modes by the names of the original in these scripts."""

EVAL_ARGUMENTS = (
    Argument("test_questions", "question set", _name),
    Argument("subset", "its part, such as test", _name),
    Argument("model_full", "model, as 'data;folder;epoch'", _name),
    Argument("ner", "part of the name of the output", _name),
    Argument("mention_classifier_threshold", "probability above which a mention is one", _share),
    Argument("top_k", "most mentions per text", _whole(1)),
    Argument("final_thresholding", "how links are decoded", _one_of(*FINAL_THRESHOLDING)),
    Argument("eval_batch_size", "texts at once", _whole(1), "64"),
    Argument("entity_encoding", "entity vectors", str, ""),
)
"""``run_eval_all_ents_slurm.sh``."""


@dataclass(frozen=True)
class RunName:
    """What names a run, and where it and its entity vectors lie."""

    data: str
    mention_agg_type: str
    joint_mention_detection: bool
    context_length: int
    load_saved_cand_encs: bool
    adversarial: bool
    model_size: str
    mention_scoring_method: str = "qa_linear"

    def _settings(self) -> str:
        flags = (self.load_saved_cand_encs, self.adversarial)
        columns = [
            self.mention_agg_type, _lowercase(self.joint_mention_detection), str(self.context_length), *map(_lowercase, flags),
            "bert", self.model_size, self.mention_scoring_method,
        ]  # fmt: skip
        return "_".join(columns)

    def folder(self, settings: ClusterSettings) -> Path:
        """The run's folder."""
        return Path(settings.paths.experiments) / self.data / f"all_mention_biencoder_{self._settings()}"

    def encodings(self, settings: ClusterSettings) -> Path:
        """The folder of the vectors that its candidate encoder makes."""
        return Path(settings.paths.models) / "entity_encodings" / f"{self.data}_{self._settings()}"


def _lowercase(truth: bool) -> str:
    return str(truth).lower()


@dataclass(frozen=True)
class TrainArguments:
    """The arguments of ``examples/train_biencoder.sh``, see `TRAIN_ARGUMENTS`."""

    data: str
    mention_agg_type: str
    objective: str
    batch_size: int
    joint_mention_detection: bool
    context_length: int
    load_saved_cand_encs: bool
    adversarial: bool
    model_size: str
    mention_scoring_method: str
    chunk_start: int
    chunk_end: int
    epoch: int
    eval_batch_size: int

    def __post_init__(self) -> None:
        if self.chunk_end != TO_THE_END and self.chunk_end <= self.chunk_start and self.objective != "train":
            chunk = f"the chunk of entities is {self.chunk_start} to {self.chunk_end}"
            raise SettingsError(
                f"{chunk}; its end (argument 12) must lie behind its start (argument 11), or be -1 for the last entity"
            )

    @property
    def run(self) -> RunName:
        """What names the run."""
        return RunName(**{f.name: getattr(self, f.name) for f in fields(RunName)})


@dataclass(frozen=True)
class EncodeArguments:
    """The arguments of ``run_slurm.sh``, see `ENCODE_ARGUMENTS`."""

    data: str
    mention_agg_type: str
    joint_mention_detection: bool
    context_length: int
    load_saved_cand_encs: bool
    adversarial: bool
    model_size: str
    epoch: int

    @property
    def run(self) -> RunName:
        """What names the run."""
        return RunName(**{f.name: getattr(self, f.name) for f in fields(RunName) if f.name != "mention_scoring_method"})


@dataclass(frozen=True)
class EvalArguments:
    """The arguments of ``run_eval_all_ents_slurm.sh``, see `EVAL_ARGUMENTS`; numbers that stand in names keep their spelling.

    Attributes:
        model_full: three parts, of which the last two may be missing: data, folder of the run, epoch.
        entity_encoding: empty for that of BLINK.
    """

    test_questions: str
    subset: str
    model_full: str
    ner: str
    mention_classifier_threshold: str
    top_k: str
    final_thresholding: str
    eval_batch_size: int
    entity_encoding: str

    def folder(self, settings: ClusterSettings) -> Path:
        """Where predictions go; the name holds the semicolons of ``model_full``."""
        name = (
            f"{self.test_questions}_{self.subset}_{self.model_full}_{self.ner}{self.mention_classifier_threshold}"
            f"_top{self.top_k}cands_final_{self.final_thresholding}"
        )
        return Path(settings.paths.predictions) / (name + ("_realtime_test" if self.eval_batch_size == 1 else ""))


def read_train_arguments(arguments: Sequence[str]) -> TrainArguments:
    """Read the arguments of ``examples/train_biencoder.sh``.

    Raises:
        SettingsError: one is missing, too many, or not allowed; it is named.
    """
    batch_size = "128" if arguments[:1] == [PRETRAIN] else "32"
    return TrainArguments(**_read(TRAIN_ARGUMENTS, arguments, {"batch_size": batch_size}))


def read_encode_arguments(arguments: Sequence[str]) -> EncodeArguments:
    """Read the arguments of ``run_slurm.sh``. Errors as of `read_train_arguments`."""
    return EncodeArguments(**_read(ENCODE_ARGUMENTS, arguments))


def read_eval_arguments(arguments: Sequence[str]) -> EvalArguments:
    """Read the arguments of ``run_eval_all_ents_slurm.sh``. Errors as of `read_train_arguments`."""
    values = _read(EVAL_ARGUMENTS, arguments)
    names = [w.name for w in EVAL_ARGUMENTS]
    as_written = {n: arguments[names.index(n)] for n in ("mention_classifier_threshold", "top_k")}
    return EvalArguments(**{**values, **as_written})


def _read(table: Sequence[Argument], arguments: Sequence[str], defaults: Mapping[str, str] | None = None) -> dict[str, Any]:
    names = f"the arguments are: {' '.join(w.name for w in table)}"
    if len(arguments) > len(table):
        raise SettingsError(f"{arguments[len(table)]!r} is one argument too many, of {len(arguments)}; {names}")
    values = {}
    for number, argument in enumerate(table, 1):
        position = f"argument {number}, {argument.name} ({argument.about}),"
        written = arguments[number - 1] if number <= len(arguments) else ""
        text = written or (defaults or {}).get(argument.name) or argument.default
        if text is None:
            raise SettingsError(f"{position} is missing; {names}")
        try:
            values[argument.name] = argument.read(text)
        except ValueError as error:
            raise SettingsError(
                f"argument {number}, {argument.name} ({argument.about}), is {text!r}; allowed is {error}"
            ) from error
    return values
