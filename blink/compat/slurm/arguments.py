"""The positional words of the original's three shell scripts: tables, value classes, and the folders they name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from blink.cluster.runs import WHOLE_RUN
from blink.cluster.settings import ClusterSettings
from blink.errors import SettingsError
from blink.model.config import AGGREGATIONS, MENTION_SCORERS

Words = TypeVar("Words")

NO_AGGREGATION = ("none", "none_no_mentions")
"""Of the first no flag at all comes, of the second ``--no_mention_bounds`` alone."""
PRETRAIN = "pretrain"
"""The data set with another default batch, and less frequent validation."""
TO_THE_END = -1
"""As the end of a chunk: the last row."""


@dataclass(frozen=True)
class Word:
    """One positional word.

    Attributes:
        name: as the original's script calls it, and as its field.
        about: what it says, for messages.
        read: its value from its text; raises ValueError, with what is allowed, where that is no value.
        default: text that stands for it where it is left out or empty; None where it must be given.
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

MODEL_WORDS = {
    "data": Word("data", "data set", _name),
    "mention_agg_type": Word("mention_agg_type", "how tokens become a mention vector", _aggregation),
    "joint": Word("joint_mention_detection", "whether mentions are found by the model", _truth),
    "context_length": Word("context_length", "longest text, in word pieces", _whole(3), "128"),
    "load": Word("load_saved_cand_encs", "whether entity vectors are those of BLINK, and stay", _truth),
    "adversarial": Word("adversarial", "whether negatives are mined", _truth),
    "size": Word("model_size", "size of BERT, such as base or large", _name),
    "scoring": Word("mention_scoring_method", "head that scores mentions", _one_of(*MENTION_SCORERS)),
}
"""Words that two scripts share, and that name the folder of a run."""

TRAIN_WORDS = (
    MODEL_WORDS["data"],
    MODEL_WORDS["mention_agg_type"],
    Word("objective", "train, predict (encode entities) or both", _one_of("train", "predict", "both"), "both"),
    Word("batch_size", "texts, or entities, at once", _whole(1), ""),
    MODEL_WORDS["joint"],
    MODEL_WORDS["context_length"],
    MODEL_WORDS["load"],
    MODEL_WORDS["adversarial"],
    MODEL_WORDS["size"],
    MODEL_WORDS["scoring"],
    Word("chunk_start", "first entity that predict encodes", _whole(0), "0"),
    Word("chunk_end", "entity before which predict ends; -1 for the last", _whole(TO_THE_END), "1000000"),
    Word("epoch", f"{_EPOCH}; training goes on after it", _whole(WHOLE_RUN), str(WHOLE_RUN)),
    Word("eval_batch_size", "texts at once in validation", _whole(1), "32"),
)
"""``examples/train_biencoder.sh``. The default of batch_size depends on data, see `TrainWords`."""

ENCODE_WORDS = (
    *(MODEL_WORDS[n] for n in ("data", "mention_agg_type", "joint")),
    Word("context_length", MODEL_WORDS["context_length"].about, _whole(3)),
    *(MODEL_WORDS[n] for n in ("load", "adversarial", "size")),
    Word("epoch", _EPOCH, _whole(WHOLE_RUN)),
)
"""``run_slurm.sh``; it has no defaults."""

FINAL_THRESHOLDING = ("joint", "joint_0", "top_joint_by_mention", "top_entity_by_mention")
"""How links are chosen, by the names of the original that these scripts call."""

EVAL_WORDS = (
    Word("test_questions", "question set", _name),
    Word("subset", "its part, such as test", _name),
    Word("model_full", "model, as 'data;folder;epoch'", _name),
    Word("ner", "a word for the name of the output", _name),
    Word("mention_classifier_threshold", "probability above which a mention is one", _share),
    Word("top_k", "most mentions per text", _whole(1)),
    Word("final_thresholding", "how links are chosen", _one_of(*FINAL_THRESHOLDING)),
    Word("eval_batch_size", "texts at once", _whole(1), "64"),
    Word("entity_encoding", "entity vectors", str, ""),
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
        truths = (self.load_saved_cand_encs, self.adversarial)
        words = [
            self.mention_agg_type, _spelt(self.joint_mention_detection), str(self.context_length), *map(_spelt, truths), "bert",
            self.model_size, self.mention_scoring_method,
        ]  # fmt: skip
        return "_".join(words)

    def folder(self, settings: ClusterSettings) -> Path:
        """The run's folder."""
        return Path(settings.paths.experiments) / self.data / f"all_mention_biencoder_{self._settings()}"

    def encodings(self, settings: ClusterSettings) -> Path:
        """The folder of the vectors that its candidate encoder makes."""
        return Path(settings.paths.models) / "entity_encodings" / f"{self.data}_{self._settings()}"


def _spelt(truth: bool) -> str:
    return str(truth).lower()


@dataclass(frozen=True)
class TrainWords:
    """The words of ``examples/train_biencoder.sh``, see `TRAIN_WORDS`."""

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
            found = f"the chunk of entities is {self.chunk_start} to {self.chunk_end}"
            raise SettingsError(f"{found}; its end (word 12) must lie behind its start (word 11), or be -1 for the last entity")

    @property
    def run(self) -> RunName:
        """What names the run."""
        return RunName(**{f.name: getattr(self, f.name) for f in fields(RunName)})


@dataclass(frozen=True)
class EncodeWords:
    """The words of ``run_slurm.sh``, see `ENCODE_WORDS`."""

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
class EvalWords:
    """The words of ``run_eval_all_ents_slurm.sh``, see `EVAL_WORDS`; numbers that stand in names keep their spelling.

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


def read_train_words(words: Sequence[str]) -> TrainWords:
    """Read the words of ``examples/train_biencoder.sh``.

    Raises:
        SettingsError: one is missing, too many, or not allowed; it is named.
    """
    batch_size = "128" if words[:1] == [PRETRAIN] else "32"
    return TrainWords(**_read(TRAIN_WORDS, words, {"batch_size": batch_size}))


def read_encode_words(words: Sequence[str]) -> EncodeWords:
    """Read the words of ``run_slurm.sh``. Errors as of `read_train_words`."""
    return EncodeWords(**_read(ENCODE_WORDS, words))


def read_eval_words(words: Sequence[str]) -> EvalWords:
    """Read the words of ``run_eval_all_ents_slurm.sh``. Errors as of `read_train_words`."""
    values = _read(EVAL_WORDS, words)
    names = [w.name for w in EVAL_WORDS]
    spelt = {n: words[names.index(n)] for n in ("mention_classifier_threshold", "top_k")}
    return EvalWords(**{**values, **spelt})


def _read(table: Sequence[Word], words: Sequence[str], defaults: Mapping[str, str] | None = None) -> dict[str, Any]:
    names = f"the words are: {' '.join(w.name for w in table)}"
    if len(words) > len(table):
        raise SettingsError(f"{words[len(table)]!r} is one word too many, of {len(words)}; {names}")
    values = {}
    for place, word in enumerate(table, 1):
        given = words[place - 1] if place <= len(words) else ""
        text = given or (defaults or {}).get(word.name) or word.default
        if text is None:
            raise SettingsError(f"word {place}, {word.name} ({word.about}), is missing; {names}")
        try:
            values[word.name] = word.read(text)
        except ValueError as error:
            raise SettingsError(f"word {place}, {word.name} ({word.about}), is {text!r}; allowed is {error}") from error
    return values
