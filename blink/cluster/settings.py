"""What differs from one cluster to the next: partition, GPUs, time, where data lies. It comes from a file and the environment.

Nothing of it stands in code: where neither says anything, Slurm's own defaults hold.
"""

from __future__ import annotations

import configparser
import difflib
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from blink.errors import MissingFileError, SettingsError

FILE_VARIABLE = "BLINK_CLUSTER"
FILE_NAME = "cluster.ini"
SUBMIT = ("auto", "slurm", "local")
DEFAULT_SIZES = {"base": "bert-base-uncased", "large": "bert-large-uncased"}


@dataclass(frozen=True)
class SlurmSettings:
    """How jobs are submitted, and what each asks of the cluster; what is None is left to the cluster.

    Attributes:
        submit: slurm, local (this machine), or auto: slurm where there is an sbatch.
        partition: of the cluster.
        account: that is charged.
        qos: quality of service.
        constraint: features that a node must have.
        nodes: that a training runs on.
        gpus: per node.
        processes: of a training, per node; by default one per GPU, or one.
        cpus: per node; they are also the threads of a process, unless OMP_NUM_THREADS is set.
        mem_gb: memory per node, in gigabytes.
        time_min: minutes after which a job is ended.
        notice_s: seconds before that at which a job is told, saves and is queued again.
        requeues: a job that was queued again so often fails instead; its time may be too short to get anywhere.
        parallel: shards at a time; 0 is all of them in Slurm, one here.
        shard_rows: rows of a catalogue that one job encodes.
        setup: lines of shell before the command, such as module load.
    """

    submit: str = "auto"
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    nodes: int = 1
    gpus: int | None = None
    processes: int | None = None
    cpus: int | None = None
    mem_gb: int | None = None
    time_min: int | None = None
    notice_s: int = 120
    requeues: int = 20
    parallel: int = 0
    shard_rows: int = 1_000_000
    setup: str = ""

    @property
    def processes_per_node(self) -> int:
        """Processes that a training has on each node."""
        return self.processes or self.gpus or 1


@dataclass(frozen=True)
class Paths:
    """Where things lie.

    Attributes:
        data: folder of the data sets, each in a folder of its own.
        models: folder of entity.jsonl, released models and entity encodings.
        experiments: folder of training runs.
        predictions: folder that an evaluation makes a folder of predictions in.
    """

    data: str = "data"
    models: str = "models"
    experiments: str = "experiments"
    predictions: str = "saved_preds"


PATH_VARIABLES = {
    "data": "BLINK_DATA_ROOT", "models": "BLINK_MODELS_DIR", "experiments": "BLINK_EXPERIMENTS_DIR",
    "predictions": "BLINK_PREDICTIONS_DIR",
}  # fmt: skip
FREE_SECTIONS = {"data": "BLINK_DATA_", "sizes": "BLINK_SIZE_", "flags": "BLINK_FLAGS_"}
"""Sections whose keys are names of the user's own, and how the variable of such a key begins."""
SECTIONS = ("slurm", "paths", *FREE_SECTIONS)
FLAG_KINDS = ("train", "encode", "eval")

SHARD_VARIABLE, DRY_RUN_VARIABLE = "BLINK_SHARD", "BLINK_DRY_RUN"
OTHER_VARIABLES = (FILE_VARIABLE, SHARD_VARIABLE, DRY_RUN_VARIABLE)
"""Variables of ours that are no settings."""

_LEAST = {
    "nodes": 1, "gpus": 0, "processes": 1, "cpus": 1, "mem_gb": 1, "time_min": 1, "notice_s": 1, "requeues": 0, "parallel": 0,
    "shard_rows": 1,
}  # fmt: skip


@dataclass(frozen=True)
class ClusterSettings:
    """All settings, and where each of them was found.

    Attributes:
        slurm: how jobs are submitted.
        paths: where things lie.
        data: folders of data sets that lie elsewhere, by name.
        sizes: encoders by size, as the launchers name them.
        flags: words that are put behind those of a launcher, by kind.
        file: that was read, if any.
        origins: ``section.key`` -> the variable, file or flag it comes from; what is not there is a default.
    """

    slurm: SlurmSettings = SlurmSettings()
    paths: Paths = Paths()
    data: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, str] = field(default_factory=lambda: dict(DEFAULT_SIZES))
    flags: Mapping[str, str] = field(default_factory=dict)
    file: Path | None = None
    origins: Mapping[str, str] = field(default_factory=dict)

    def data_folder(self, name: str) -> Path:
        """The folder of a data set: one that is named for it, or the one of its name among the data."""
        return Path(self.data.get(name.lower(), str(Path(self.paths.data) / name)))

    def encoder(self, size: str) -> str:
        """The pretrained encoder that a size stands for.

        Raises:
            SettingsError: there is no such size.
        """
        if size.lower() not in self.sizes:
            allowed = ", ".join(sorted(self.sizes))
            raise SettingsError(
                f"the model size is {size!r}; allowed are {allowed}, and those that [sizes] of the settings adds"
            )
        return self.sizes[size.lower()]

    def extra_flags(self, kind: str) -> list[str]:
        """Words that the settings put behind those of a launcher.

        Raises:
            SettingsError: a quotation is not closed.
        """
        try:
            return shlex.split(self.flags.get(kind, ""))
        except ValueError as error:
            raise SettingsError(f"flags.{kind} is {self.flags[kind]!r} ({error}); quote it as a shell would") from error

    def to_environment(self) -> dict[str, str]:
        """Variables by which another process reads the same settings, whatever flags this one was given."""
        names = [key.removeprefix("slurm.") for key, origin in self.origins.items() if origin.startswith("--")]
        flags = {variable("slurm", name): str(getattr(self.slurm, name)) for name in names}
        return flags if self.file is None else {FILE_VARIABLE: str(self.file.resolve()), **flags}

    def origin(self, key: str) -> str:
        """Where a setting such as ``slurm.partition`` comes from, in words."""
        return self.origins.get(key, "default")


def load_settings(
    environment: Mapping[str, str] | None = None, file: str | Path | None = None, **flags: Any
) -> ClusterSettings:
    """Read the settings.

    Args:
        environment: the process's own where it is None.
        file: the settings file; where it is None, that of `find_file`.
        flags: fields of `SlurmSettings` that were given on the command line; None is as if not given.

    Raises:
        MissingFileError: the file that is named is not there.
        SettingsError: a section or key is unknown, or a value not allowed; the message names file or variable.
    """
    environment = os.environ if environment is None else environment
    found = find_file(environment) if file is None else _require(Path(file), "--settings")
    texts: dict[str, dict[str, str]] = {section: {} for section in SECTIONS}
    origins: dict[str, str] = {}
    for section, key, value, origin in (*_from_file(found), *_from_environment(environment)):
        texts[section][key] = value
        origins[f"{section}.{key}"] = origin
    values = {key: _read(key, text, origins[f"slurm.{key}"]) for key, text in texts["slurm"].items()}
    for key, value in flags.items():
        if value is not None:
            values[key], origins[f"slurm.{key}"] = value, f"--{key.replace('_', '-')}"
            _check(key, value, origins[f"slurm.{key}"])
    return ClusterSettings(
        slurm=SlurmSettings(**values),
        paths=Paths(**texts["paths"]),
        data=texts["data"],
        sizes={**DEFAULT_SIZES, **texts["sizes"]},
        flags=texts["flags"],
        file=found,
        origins=origins,
    )


def find_file(environment: Mapping[str, str]) -> Path | None:
    """The settings file: that which BLINK_CLUSTER names, else cluster.ini here, else that of the user, else none.

    Raises:
        MissingFileError: the file that BLINK_CLUSTER names is not there.
    """
    if environment.get(FILE_VARIABLE):
        return _require(Path(environment[FILE_VARIABLE]), FILE_VARIABLE)
    home = Path(environment.get("XDG_CONFIG_HOME") or Path(environment.get("HOME") or "~").expanduser() / ".config")
    return next((p for p in (Path(FILE_NAME), home / "blink" / FILE_NAME) if p.is_file()), None)


def _require(path: Path, named_by: str) -> Path:
    if not path.is_file():
        raise MissingFileError(
            f"{path}, the settings file named by {named_by}, does not exist; copy examples/cluster.ini there, or name another"
        )
    return path


def variable(section: str, key: str) -> str:
    """The environment variable of a key."""
    if section == "paths":
        return PATH_VARIABLES[key]
    return (FREE_SECTIONS.get(section) or "BLINK_") + key.upper()


_Found = tuple[str, str, str, str]
"""Section, key, text, origin."""


def _from_file(path: Path | None) -> Iterator[_Found]:
    if path is None:
        return
    parser = configparser.ConfigParser(interpolation=None, default_section="", inline_comment_prefixes=(" #", "\t#"))
    try:
        parser.read_string(path.read_text(encoding="utf-8"), str(path))
    except (configparser.Error, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{path} cannot be read ({' '.join(str(error).split())}); write 'key = value' below '[section]'"
        ) from error
    for section in parser.sections():
        if section not in SECTIONS:
            raise SettingsError(
                f"{path}: [{section}] is no section{_meant(section, SECTIONS)}; allowed are {', '.join(SECTIONS)}"
            )
        for key, value in parser.items(section):
            _check_key(section, key, str(path))
            if value.strip():  # an empty value is as if not given
                yield section, key, value.strip(), str(path)


def _from_environment(environment: Mapping[str, str]) -> Iterator[_Found]:
    taken = {*PATH_VARIABLES.values(), FILE_VARIABLE}
    for name, value in environment.items():
        section = next((s for s, prefix in FREE_SECTIONS.items() if name.startswith(prefix) and name not in taken), None)
        if section is not None and value:
            key = name.removeprefix(FREE_SECTIONS[section]).lower()
            _check_key(section, key, name)
            yield section, key, value, name
    for section, settings in (("slurm", SlurmSettings), ("paths", Paths)):
        for each in fields(settings):
            name = variable(section, each.name)
            if environment.get(name):
                yield section, each.name, environment[name], name

    _refuse_misspelt(environment)


def _refuse_misspelt(environment: Mapping[str, str]) -> None:
    """A variable that is nearly one of ours would be passed over in silence."""
    known = {variable(s, f.name) for s, kind in (("slurm", SlurmSettings), ("paths", Paths)) for f in fields(kind)}
    for name in environment:
        if name.startswith("BLINK_") and name not in known and name not in OTHER_VARIABLES and not _is_free(name):
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.85)
            if near:
                raise SettingsError(f"{name} is no setting (did you mean {near[0]}?); correct or unset it")


def _is_free(name: str) -> bool:
    return name.startswith(tuple(FREE_SECTIONS.values()))


def _check_key(section: str, key: str, origin: str) -> None:
    allowed = {
        "slurm": [f.name for f in fields(SlurmSettings)],
        "paths": [f.name for f in fields(Paths)],
        "flags": list(FLAG_KINDS),
    }.get(section)
    if allowed is not None and key not in allowed:
        found = f"{origin}: {key!r} is no key of [{section}]{_meant(key, allowed)}"
        raise SettingsError(f"{found}; allowed are {', '.join(allowed)}")


def _meant(found: str, allowed: Any) -> str:
    near = difflib.get_close_matches(found, allowed, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _read(key: str, text: str, origin: str) -> Any:
    """The value of a key of [slurm] from its text."""
    if key not in _LEAST:
        _check(key, text, origin)
        return text
    try:
        value = int(text)
    except ValueError:
        raise SettingsError(f"{key} is {text!r} (from {origin}); it must be a whole number of at least {_LEAST[key]}") from None
    _check(key, value, origin)
    return value


def _check(key: str, value: Any, origin: str) -> None:
    if key == "submit" and value not in SUBMIT:
        raise SettingsError(f"submit is {value!r} (from {origin}); allowed are {', '.join(SUBMIT)}")
    if key in _LEAST and value < _LEAST[key]:
        raise SettingsError(f"{key} is {value} (from {origin}); it must be at least {_LEAST[key]}")
    if isinstance(value, str) and "\n" in value and key != "setup":
        raise SettingsError(f"{key} has several lines (from {origin}); give one")
