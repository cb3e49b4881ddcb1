"""What the original's shell scripts do: from their arguments, and the files on disk, a plan of `blink` commands."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from blink.cluster.runs import (
    BEST,
    PARAMETERS,
    WHOLE_RUN,
    Model,
    checkpoints_of,
    epochs_of,
    expected_model,
    read_parameters,
)
from blink.cluster.settings import ClusterSettings
from blink.compat.slurm.arguments import NO_AGGREGATION, PRETRAIN, EncodeArguments, EvalArguments, RunName, TrainArguments
from blink.errors import SettingsError

CATALOGUE = "entity.jsonl"
VECTORS = "all_entities_large.t7"
BLINK_MODEL = "biencoder_wiki_large.bin"
"""Files among the models, by their published names."""

EPOCHS = 100
LEARNING_RATE = "0.00001"
CANDIDATE_LENGTH = 128
EVAL_INTERVAL = {PRETRAIN: 1000}
USUAL_EVAL_INTERVAL = 500
ENCODE_BATCH = 512
DISTRIBUTED = ("wiki_all_ents",)
"""Data sets of millions of rows, of which each epoch sees another part."""
CONTEXT_LENGTHS = {"nq": 32, "triviaqa": 256}
"""Question sets whose texts are cut at another length than the model's own."""
WITHOUT_HEAD = ("zero_shot", "new_zero_shot")
FINE_TUNED = "finetuned_"
"""Before the name of a data set: a model that was trained further on it."""
SCRIPT = "blink/main_dense_all_ents.py"


COMMANDS = {
    "train": ("blink", "train"),
    "encode": ("blink", "slurm", "encode"),
    "link": ("python", SCRIPT),
    "copy": ("cp", "-r"),
    "remove": ("rm",),
}
"""How the kinds of steps begin."""


@dataclass(frozen=True)
class Step:
    """One command of a plan.

    Attributes:
        kind: one of `COMMANDS`.
        arguments: its arguments; of ``copy``, the last is the folder that all others go to.
    """

    kind: str
    arguments: tuple[str, ...]

    def command_line(self) -> str:
        """The command as a shell takes it."""
        return shlex.join((*COMMANDS[self.kind], *self.arguments))


@dataclass(frozen=True)
class Plan:
    """What a script will do.

    Attributes:
        reads: files that must be there.
        models: models that must be there, as folder of the run and epoch.
        writes: folders it writes to.
        steps: its commands, in order.
        parameters: settings of the training, for `PARAMETERS`; empty where nothing is trained.
        notes: what the user should know.
    """

    reads: tuple[Path, ...]
    models: tuple[tuple[Path, int], ...]
    writes: tuple[Path, ...]
    steps: tuple[Step, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The plan as text: files, folders, commands."""
        files = [*self.reads, *(expected_model(*model).path for model in self.models)]
        return [
            *(f"reads {path}{'' if path.exists() else '  (not there)'}" for path in files),
            *(f"writes {path}" for path in self.writes),
            *(step.command_line() for step in self.steps),
        ]


# -- training -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Start:
    """The initial model of a training, and the settings it implies.

    Attributes:
        path_to_model: weights, or None for a fresh model.
        load_cand_enc_only: take of them the encoder of entities only.
        freeze_cand_enc: entity vectors stay.
        adversarial_training: negatives are mined.
        last_epoch: epoch of the weights, -1 before the first.
    """

    path_to_model: str | None = None
    load_cand_enc_only: bool = False
    freeze_cand_enc: bool = False
    adversarial_training: bool = False
    last_epoch: int = WHOLE_RUN

    def flags(self) -> list[str]:
        """Flags of `blink train`."""
        flags = ["--freeze_cand_enc"] if self.freeze_cand_enc else ["--freeze_cand_enc", "false"]
        if self.load_cand_enc_only:
            flags += ["--load_cand_enc_only"]
        if self.path_to_model is not None:
            flags += ["--path_to_model", self.path_to_model]
        else:  # adapters are for encoders that stay as they are; the original trains whole ones
            flags += ["--adapter-rank", "0"]
        if self.adversarial_training:
            flags += ["--adversarial_training"]
        elif self.freeze_cand_enc:
            flags += ["--objective", "in_batch"]
        return [*flags, "--last_epoch", str(self.last_epoch)]


def fresh_start(arguments: TrainArguments, settings: ClusterSettings) -> Start:
    """What a run starts from that continues no epoch."""
    if not arguments.load_saved_cand_encs:
        return Start(adversarial_training=arguments.adversarial)
    return Start(str(Path(settings.paths.models) / BLINK_MODEL), True, True, arguments.adversarial)


def later_start(arguments: TrainArguments, run: Path) -> Start:
    """What a run starts from that continues from the weights of an epoch.

    Where entity vectors are given, its negatives are mined from there on, whatever went before: the second phase.
    """
    weights = expected_model(run, arguments.epoch).path
    mined = arguments.adversarial or arguments.load_saved_cand_encs
    return Start(str(weights), False, arguments.load_saved_cand_encs, mined, arguments.epoch)


def previous_start(run: Path) -> Start | None:
    """What the run in a folder started from; None where there is none with checkpoints to continue."""
    values, defaults = read_parameters(run / PARAMETERS), asdict(Start())
    if not checkpoints_of(run) or not defaults.keys() <= values.keys():
        return None
    return Start(**{name: values[name] for name in defaults})


def start_of(arguments: TrainArguments, run: Path, settings: ClusterSettings) -> tuple[Start, Start | None]:
    """What to start from, and what the run in the folder started from, if anything, which is continued or replaced.

    A run that has checkpoints continues, whatever epoch is named, unless its second phase is to begin.

    Raises:
        SettingsError: the run is in its second phase already, and no epoch is named.
    """
    previous = previous_start(run)
    requested = fresh_start(arguments, settings) if arguments.epoch == WHOLE_RUN else later_start(arguments, run)
    if previous is None or previous.adversarial_training == requested.adversarial_training:
        return previous or requested, previous
    if arguments.epoch != WHOLE_RUN:
        return requested, previous
    raise SettingsError(
        f"the run in {run} has gone on from epoch {previous.last_epoch} with mined negatives; to go on with it, give an epoch "
        f"as argument 13 (it holds {', '.join(map(str, epochs_of(run)))}), to begin again, remove the folder"
    )


def plan_training(arguments: TrainArguments, settings: ClusterSettings) -> Plan:
    """The plan of ``examples/train_biencoder.sh``.

    Raises:
        SettingsError: the model size is unknown, no epoch is left, or as of `start_of`.
    """
    run, plans = arguments.run.folder(settings), []
    if arguments.objective in ("train", "both"):
        plans.append(_plan_train(arguments, run, settings))
    if arguments.objective in ("predict", "both"):
        plans.append(_plan_predict(arguments, run, settings))
    return Plan(
        reads=tuple(dict.fromkeys(path for plan in plans for path in plan.reads)),
        models=tuple(model for plan in plans for model in plan.models),
        writes=tuple(path for plan in plans for path in plan.writes),
        steps=tuple(step for plan in plans for step in plan.steps),
        parameters=plans[0].parameters,
        notes=plans[0].notes,
    )


def _plan_train(arguments: TrainArguments, run: Path, settings: ClusterSettings) -> Plan:
    data = settings.data_folder(arguments.data)
    start, previous = start_of(arguments, run, settings)
    total, extra = _epochs_in(settings.extra_flags("train"))
    if start.last_epoch + 1 >= total:
        raise SettingsError(f"training has {total} epochs, 0 to {total - 1}, so none is left after epoch {start.last_epoch}")
    catalogue, vectors = _entity_files(data, settings)
    options: dict[str, Any] = {
        "data_path": str(data),
        "output_path": str(run),
        "bert_model": settings.encoder(arguments.model_size),
        "title_key": "entity",
        "num_train_epochs": total - start.last_epoch - 1,
        "learning_rate": LEARNING_RATE,
        "max_context_length": arguments.context_length,
        "max_cand_length": CANDIDATE_LENGTH,
        "train_batch_size": arguments.batch_size,
        "eval_batch_size": arguments.eval_batch_size,
        "eval_interval": EVAL_INTERVAL.get(arguments.data, USUAL_EVAL_INTERVAL),
        "mention_scoring_method": arguments.mention_scoring_method,
        "cand_enc_path": str(vectors),
    }
    flags = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    flags += ["--catalogue", str(catalogue), "--data_parallel", "--get_losses", *_mention_flags(arguments)]
    flags += ["--dont_distribute_train_samples", *(["false"] if arguments.data in DISTRIBUTED else [])]
    steps = [Step("train", (*flags, *start.flags(), "--keep-epochs", "--resume", *extra))]
    stale = checkpoints_of(run)
    if stale and start != previous:  # of the first phase; its epochs stay
        steps.insert(0, Step("remove", tuple(map(str, stale))))
    blink_model = [Path(str(start.path_to_model))] if start.load_cand_enc_only else []
    return Plan(
        reads=(*_training_files(data), catalogue, vectors, *blink_model),
        models=() if arguments.epoch == WHOLE_RUN else ((run, arguments.epoch),),
        writes=(run,),
        steps=tuple(steps),
        parameters={**options, "learning_rate": float(LEARNING_RATE), **_mention_parameters(arguments), **asdict(start)},
        notes=(f"{run} holds a run: going on from its newest checkpoint",) if start == previous else (),
    )


def _epochs_in(extra: Sequence[str]) -> tuple[int, list[str]]:
    """How many epochs there are in all, and the arguments of ``extra`` without those that say so.

    Raises:
        SettingsError: no number follows.
    """
    names = ("--num_train_epochs", "--epochs")
    position = next((i for i, argument in enumerate(extra) if argument in names), None)
    if position is None:
        return EPOCHS, list(extra)
    number = extra[position + 1] if position + 1 < len(extra) else ""
    if not number.isdecimal():
        raise SettingsError(f"{extra[position]} of the training flags is {number!r}; give a whole number behind it")
    return int(number), [*extra[:position], *extra[position + 2 :]]


def _mention_flags(arguments: TrainArguments) -> list[str]:
    flags = ["--do_mention_detection"] if arguments.joint_mention_detection else []
    if arguments.mention_agg_type == "none":
        return flags
    flags += ["--no_mention_bounds"]
    if arguments.mention_agg_type not in NO_AGGREGATION:
        flags += ["--mention_aggregation_type", arguments.mention_agg_type]
    return flags


def _mention_parameters(arguments: TrainArguments) -> dict[str, Any]:
    kind = arguments.mention_agg_type
    return {
        "mention_aggregation_type": None if kind in NO_AGGREGATION else kind,
        "no_mention_bounds": kind != "none",
        "do_mention_detection": arguments.joint_mention_detection,
    }


def _entity_files(data: Path, settings: ClusterSettings) -> tuple[Path, Path]:
    """Catalogue and vectors of a data set: its own, where its folder holds both, else those among the models."""
    of_data_set, common = ((folder / CATALOGUE, folder / VECTORS) for folder in (data, Path(settings.paths.models)))
    return of_data_set if all(p.is_file() for p in of_data_set) else common


def _training_files(data: Path) -> Iterator[Path]:
    yield data / "train.jsonl"
    dev = data / "dev.jsonl"
    yield dev if dev.is_file() and not (data / "valid.jsonl").is_file() else data / "valid.jsonl"


# -- encoding -----------------------------------------------------------------------------------------------------------


def plan_encoding(arguments: EncodeArguments, settings: ClusterSettings) -> Plan:
    """The plan of ``run_slurm.sh``.

    Raises:
        SettingsError: the model size is unknown.
    """
    model = expected_model(arguments.run.folder(settings), arguments.epoch)
    plan = _plan_encode(arguments.run, model, settings, ["--batch-size", str(ENCODE_BATCH)])
    return replace(plan, models=((arguments.run.folder(settings), arguments.epoch),))


def _plan_predict(arguments: TrainArguments, run: Path, settings: ClusterSettings) -> Plan:
    chunk = ["--batch-size", str(arguments.batch_size), "--chunk", str(arguments.chunk_start), str(arguments.chunk_end)]
    if arguments.objective == "both":  # what the training before it writes
        return _plan_encode(arguments.run, Model(run / BEST), settings, chunk)
    plan = _plan_encode(arguments.run, expected_model(run, arguments.epoch), settings, chunk)
    return replace(plan, models=((run, arguments.epoch),))


def _plan_encode(name: RunName, model: Model, settings: ClusterSettings, flags: Sequence[str]) -> Plan:
    """Copy the model next to its vectors, which belong to it, then encode."""
    settings.encoder(name.model_size)
    run, out = name.folder(settings), str(name.encodings(settings))
    catalogue, _ = _entity_files(settings.data_folder(name.data), settings)
    parameters = [str(run / PARAMETERS)] if model.parameters is None and (run / PARAMETERS).is_file() else []
    arguments = (str(catalogue), "--model", out, "--out", out, "--layout", "t7", *flags, *settings.extra_flags("encode"))
    steps = (Step("copy", (*model.sources(), *parameters, out)), Step("encode", arguments))
    return Plan((catalogue,), (), (Path(out),), steps)


# -- evaluation ---------------------------------------------------------------------------------------------------------


def model_location(model_full: str, settings: ClusterSettings) -> tuple[Path, int]:
    """Folder and epoch of a model's full name.

    Raises:
        SettingsError: it has more than three parts, no whole number as its epoch, or is BLINK's own model.
    """
    data, folder, epoch, *more = (*model_full.split(";"), "", "")
    if more[2:] or (epoch and not epoch.isdecimal()) or not data or {data, folder} & {".", ".."}:
        raise SettingsError(f"the model is {model_full!r}; give 'data;folder;epoch', or 'data;folder' for the whole run's")
    if data in WITHOUT_HEAD:
        raise SettingsError(
            f"the model is {data!r}, BLINK's own, which has no mention head and so finds no mentions; give a model trained by "
            "examples/train_biencoder.sh, as 'data;folder;epoch'"
        )
    number = int(epoch) if epoch else WHOLE_RUN
    if folder:
        return Path(settings.paths.experiments) / data.removeprefix(FINE_TUNED) / folder, number
    return Path(settings.paths.models) / "entity_encodings" / data, number


def plan_evaluation(arguments: EvalArguments, settings: ClusterSettings, *, gpu: bool) -> Plan:
    """The plan of ``run_eval_all_ents_slurm.sh``.

    Args:
        arguments: of the script.
        settings: of the cluster.
        gpu: whether there is a GPU; the original asks for one always.

    Raises:
        SettingsError: as of `model_location`.
    """
    run, epoch = model_location(arguments.model_full, settings)
    model, out = expected_model(run, epoch), arguments.folder(settings)
    models = Path(settings.paths.models)
    questions = _question_file(settings.data_folder(arguments.test_questions), arguments.subset)
    vectors = Path(arguments.entity_encoding) if arguments.entity_encoding else models / VECTORS
    options: dict[str, Any] = {
        "test_mentions": questions,
        "test_entities": models / CATALOGUE,
        "entity_catalogue": models / CATALOGUE,
        "entity_encoding": vectors,
        "biencoder_model": model.path,
        **({} if model.parameters is None else {"biencoder_config": model.parameters}),
        "save_preds_dir": out,
        "do_ner": "joint_all_ents",
        "mention_classifier_threshold": arguments.mention_classifier_threshold,
        "top_k": arguments.top_k,
        "final_thresholding": arguments.final_thresholding,
        "eval_batch_size": arguments.eval_batch_size,
    }
    flags = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    flags += ["--get_predictions", *(["--use_cuda"] if gpu else [])]
    if arguments.test_questions in CONTEXT_LENGTHS:
        flags += ["--max_context_length", str(CONTEXT_LENGTHS[arguments.test_questions])]
    return Plan(
        reads=(questions, models / CATALOGUE, vectors),
        models=((run, epoch),),
        writes=(out,),
        steps=(Step("link", (*flags, *settings.extra_flags("eval"))),),
        notes=() if gpu else ("there is no GPU here: evaluating on the CPU",),
    )


def _question_file(data: Path, subset: str) -> Path:
    """The tokenized file of a question set; where there is none, the one that holds texts."""
    tokenized, plain = data / "tokenized" / f"{subset}.jsonl", data / f"{subset}.jsonl"
    return plain if plain.is_file() and not tokenized.is_file() else tokenized
