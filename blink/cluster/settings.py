"""Settings that depend on the cluster, such as partition, GPUs, time and data folders, from a file and the environment.

The code sets none of them: without a value in the file or the environment, Slurm's own defaults apply.
"""

from __future__ import annotations

import configparser
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field

from blink.errors import MissingFileError, SettingsError
from blink.input_files import read_text
from blink.runs.fields import Line, Natural, Positive, Section
from blink.runs.settings import Settings, Source, from_environment, meant, origins

FILE_VARIABLE = "BLINK_CLUSTER"
FILE_NAME = "cluster.ini"
Submit = Literal["auto", "slurm", "local"]
SUBMIT = get_args(Submit)
DEFAULT_SIZES = {"base": "bert-base-uncased", "large": "bert-large-uncased"}


class SlurmSettings(Section):
    """Submission of jobs, and the resources of each; None means the default of the cluster."""

    submit: Submit = "auto"
    """``slurm``, ``local`` (this machine), or ``auto``: slurm if there is an sbatch."""
    partition: Line | None = None
    """Partition of the cluster."""
    account: Line | None = None
    """Account to charge."""
    qos: Line | None = None
    """Quality of service."""
    constraint: Line | None = None
    """Required features of a node."""
    nodes: Positive = 1
    """Nodes of a training."""
    gpus: Natural | None = None
    """GPUs per node."""
    processes: Positive | None = None
    """Processes of a training per node; by default one per GPU, or one without GPUs."""
    cpus: Positive | None = None
    """CPUs per node; also the number of threads of a process, unless OMP_NUM_THREADS is set."""
    mem_gb: Positive | None = None
    """Memory per node, in gigabytes."""
    time_min: Positive | None = None
    """Time limit of a job, in minutes."""
    signal_lead_s: Positive = 120
    """Seconds before the time limit at which a job gets a signal, saves its progress and is requeued."""
    requeues: Natural = 20
    """Maximum number of requeues; a job that exceeds it fails, because its time limit may be too short for progress."""
    parallel: Natural = 0
    """Maximum number of shards that run at once; 0: all of them in Slurm, one on this machine."""
    shard_rows: Positive = 1_000_000
    """Rows of a catalogue per shard of an encoding."""
    setup: str = ""
    """Shell lines before the command, such as module load."""

    @property
    def processes_per_node(self) -> int:
        """Number of processes of a training per node."""
        return self.processes or self.gpus or 1


class Paths(Section):
    """Folders of data, models and results."""

    data: str = "data"
    """Folder of the data sets, with a subfolder for each."""
    models: str = "models"
    """Folder of entity.jsonl, released models and entity encodings."""
    experiments: str = "experiments"
    """Folder of training runs."""
    predictions: str = "saved_preds"
    """Folder of predictions, with a subfolder for each evaluation."""


FREE_SECTIONS = {"data": "BLINK_DATA_", "sizes": "BLINK_SIZE_", "flags": "BLINK_FLAGS_"}
"""Section with user-defined keys -> prefix of the environment variables of its keys."""
FLAG_KINDS = ("train", "encode", "eval")
KEYS = {"slurm": list(SlurmSettings.model_fields), "paths": list(Paths.model_fields), "flags": list(FLAG_KINDS)}
"""Allowed keys of the sections with fixed keys."""
SECTIONS = ("slurm", "paths", *FREE_SECTIONS)

VARIABLES = {
    **{f"BLINK_{key.upper()}": f"slurm.{key}" for key in KEYS["slurm"]},
    "BLINK_DATA_ROOT": "paths.data", "BLINK_MODELS_DIR": "paths.models", "BLINK_EXPERIMENTS_DIR": "paths.experiments",
    "BLINK_PREDICTIONS_DIR": "paths.predictions",
}  # fmt: skip
"""Environment variable -> setting, without those of `FREE_SECTIONS`."""
EARLIER_KEYS = {"notice_s": "signal_lead_s"}
"""Key of [slurm] in earlier versions -> current key; also for variables and flags."""
EARLIER_VARIABLES = {f"BLINK_{old.upper()}": f"slurm.{key}" for old, key in EARLIER_KEYS.items()}
SHARD_VARIABLE, DRY_RUN_VARIABLE = "BLINK_SHARD", "BLINK_DRY_RUN"
OTHER_VARIABLES = (FILE_VARIABLE, SHARD_VARIABLE, DRY_RUN_VARIABLE, *EARLIER_VARIABLES)
"""Other environment variables of BLINK, which are not settings."""


class ClusterSettings(Settings):
    """All settings with their sources."""

    slurm: SlurmSettings = SlurmSettings()
    """Submission of jobs."""
    paths: Paths = Paths()
    """Folders of data, models and results."""
    data: dict[str, str] = Field(default_factory=dict)
    """Folders of data sets outside ``paths.data``, by name."""
    sizes: dict[str, str] = Field(default_factory=DEFAULT_SIZES.copy)
    """Encoders by the sizes of the launchers."""
    flags: dict[str, str] = Field(default_factory=dict)
    """Arguments to append to those of a launcher, by kind."""
    file: Path | None = None
    """The settings file, if any."""
    origins: dict[str, str] = Field(default_factory=dict)
    """``section.key`` -> the variable, file or flag that set it; settings without an entry have their default."""

    def data_folder(self, name: str) -> Path:
        """The folder of a data set: from the section ``data``, or its subfolder of ``paths.data``."""
        return Path(self.data.get(name.lower(), str(Path(self.paths.data) / name)))

    def encoder(self, size: str) -> str:
        """The pretrained encoder of a size.

        Raises:
            SettingsError: the size is unknown.
        """
        if size.lower() not in self.sizes:
            allowed = ", ".join(sorted(self.sizes))
            raise SettingsError(
                f"the model size is {size!r}; allowed are {allowed}, and those that [sizes] of the settings adds"
            )
        return self.sizes[size.lower()]

    def extra_flags(self, kind: str) -> list[str]:
        """Arguments to append to those of a launcher.

        Raises:
            SettingsError: a quotation is not closed.
        """
        try:
            return shlex.split(self.flags.get(kind, ""))
        except ValueError as error:
            raise SettingsError(f"flags.{kind} is {self.flags[kind]!r} ({error}); quote it as a shell would") from error

    def to_environment(self) -> dict[str, str]:
        """Environment variables that give another process the same settings, including those from flags."""
        values, flags = self.flat(), {name for name, origin in self.origins.items() if origin.startswith("--")}
        variables = {variable: str(values[name]) for variable, name in VARIABLES.items() if name in flags}
        return variables if self.file is None else {FILE_VARIABLE: str(self.file.resolve()), **variables}

    def origin(self, key: str) -> str:
        """The source of a setting such as ``slurm.partition``, for messages."""
        return self.origins.get(key, "default")


def load_settings(
    environment: Mapping[str, str] | None = None, file: str | Path | None = None, **flags: Any
) -> ClusterSettings:
    """Read the settings.

    Args:
        environment: environment variables; None for those of the process.
        file: the settings file; None for that of `find_file`.
        flags: fields of `SlurmSettings` from the command line; None values are ignored.

    Raises:
        MissingFileError: a settings file is named and does not exist.
        SettingsError: a section or key is unknown, or a value is not allowed; the message names the file or variable.
    """
    environment = os.environ if environment is None else environment
    path = find_file(environment) if file is None else _require(Path(file), "--settings")
    sources = [] if path is None else [_from_file(path)]
    sources += _from_environment(environment)
    sources += [
        Source(f"--{key.replace('_', '-')}", {"slurm": {key: value}}) for key, value in flags.items() if value is not None
    ]
    about = Source("", {"sizes": DEFAULT_SIZES, "file": path, "origins": origins(sources)})
    return ClusterSettings.load([about, *sources])


def find_file(environment: Mapping[str, str]) -> Path | None:
    """The settings file of BLINK_CLUSTER, of the working folder, or of the user's configuration folder; None without any.

    Raises:
        MissingFileError: the file of BLINK_CLUSTER does not exist.
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


def _from_file(path: Path) -> Source:
    parser = configparser.ConfigParser(interpolation=None, default_section="", inline_comment_prefixes=(" #", "\t#"))
    try:
        parser.read_string(read_text(path), str(path))
    except configparser.Error as error:
        raise SettingsError(
            f"{path} cannot be read ({' '.join(str(error).split())}); write 'key = value' below '[section]'"
        ) from error
    values: dict[str, dict[str, str]] = {}
    for section in parser.sections():
        if section not in SECTIONS:
            suggestion = meant(section, SECTIONS, form=" (did you mean {!r}?)")
            raise SettingsError(f"{path}: [{section}] is no section{suggestion}; allowed are {', '.join(SECTIONS)}")
        for name, value in parser.items(section):
            key = EARLIER_KEYS.get(name, name) if section == "slurm" else name
            _require_key(section, key, str(path))
            if value.strip():  # empty values are ignored
                values.setdefault(section, {})[key] = value.strip()
    return Source(str(path), values, text=True)


def _from_environment(environment: Mapping[str, str]) -> list[Source]:
    sources = []
    for name, value in environment.items():
        section = next((s for s, start in FREE_SECTIONS.items() if name.startswith(start) and name not in VARIABLES), None)
        if section is not None and value:
            key = name.removeprefix(FREE_SECTIONS[section]).lower()
            _require_key(section, key, name)
            sources.append(Source(name, {section: {key: value}}, text=True))
        elif section is None:
            _refuse_misspelt(name)
    return sources + from_environment(environment, EARLIER_VARIABLES | VARIABLES)


def _refuse_misspelt(name: str) -> None:
    """Raise an error for a variable with nearly the name of a setting, which would be ignored otherwise."""
    suggestion = meant(name, VARIABLES, 0.85, " (did you mean {}?)")
    if suggestion and name.startswith("BLINK_") and name not in (*VARIABLES, *OTHER_VARIABLES):
        raise SettingsError(f"{name} is no setting{suggestion}; correct or unset it")


def _require_key(section: str, key: str, origin: str) -> None:
    if section in KEYS and key not in KEYS[section]:
        suggestion = meant(key, KEYS[section], form=" (did you mean {!r}?)")
        raise SettingsError(f"{origin}: {key!r} is no key of [{section}]{suggestion}; allowed are {', '.join(KEYS[section])}")
