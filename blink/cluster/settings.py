"""What differs from one cluster to the next: partition, GPUs, time, folders of data. It comes from a file and the environment.

None of it is set in code: where neither says anything, Slurm's own defaults hold.
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
from blink.runs.fields import Line, Natural, Positive, Section
from blink.runs.settings import Settings, Source, from_environment, meant, origins

FILE_VARIABLE = "BLINK_CLUSTER"
FILE_NAME = "cluster.ini"
Submit = Literal["auto", "slurm", "local"]
SUBMIT = get_args(Submit)
DEFAULT_SIZES = {"base": "bert-base-uncased", "large": "bert-large-uncased"}


class SlurmSettings(Section):
    """How jobs are submitted, and what each asks of the cluster; what is None is left to the cluster."""

    submit: Submit = "auto"
    """Slurm, local (this machine), or auto: slurm where there is an sbatch."""
    partition: Line | None = None
    """Of the cluster."""
    account: Line | None = None
    """That is charged."""
    qos: Line | None = None
    """Quality of service."""
    constraint: Line | None = None
    """Features that a node must have."""
    nodes: Positive = 1
    """That a training runs on."""
    gpus: Natural | None = None
    """Per node."""
    processes: Positive | None = None
    """Of a training, per node; by default one per GPU, or one."""
    cpus: Positive | None = None
    """Per node; they are also the threads of a process, unless OMP_NUM_THREADS is set."""
    mem_gb: Positive | None = None
    """Memory per node, in gigabytes."""
    time_min: Positive | None = None
    """Minutes after which a job is ended."""
    signal_lead_s: Positive = 120
    """Seconds before that at which a job gets a signal, saves and is queued again."""
    requeues: Natural = 20
    """A job that was queued again so often fails instead; its time may be too short to get anywhere."""
    parallel: Natural = 0
    """Shards at a time; 0 is all of them in Slurm, one here."""
    shard_rows: Positive = 1_000_000
    """Rows of a catalogue that one job encodes."""
    setup: str = ""
    """Lines of shell before the command, such as module load."""

    @property
    def processes_per_node(self) -> int:
        """Processes that a training has on each node."""
        return self.processes or self.gpus or 1


class Paths(Section):
    """Folders of data, models and results."""

    data: str = "data"
    """Folder of the data sets, each in a folder of its own."""
    models: str = "models"
    """Folder of entity.jsonl, released models and entity encodings."""
    experiments: str = "experiments"
    """Folder of training runs."""
    predictions: str = "saved_preds"
    """Folder that an evaluation makes a folder of predictions in."""


FREE_SECTIONS = {"data": "BLINK_DATA_", "sizes": "BLINK_SIZE_", "flags": "BLINK_FLAGS_"}
"""Sections whose keys are names of the user's own, and how the variable of such a key begins."""
FLAG_KINDS = ("train", "encode", "eval")
KEYS = {"slurm": list(SlurmSettings.model_fields), "paths": list(Paths.model_fields), "flags": list(FLAG_KINDS)}
"""Keys of the sections that take no others."""
SECTIONS = ("slurm", "paths", *FREE_SECTIONS)

VARIABLES = {
    **{f"BLINK_{key.upper()}": f"slurm.{key}" for key in KEYS["slurm"]},
    "BLINK_DATA_ROOT": "paths.data", "BLINK_MODELS_DIR": "paths.models", "BLINK_EXPERIMENTS_DIR": "paths.experiments",
    "BLINK_PREDICTIONS_DIR": "paths.predictions",
}  # fmt: skip
"""Environment variable -> setting; besides those of `FREE_SECTIONS`."""
EARLIER_KEYS = {"notice_s": "signal_lead_s"}
"""Key of [slurm] in earlier versions -> its name; as variable and as flag too."""
EARLIER_VARIABLES = {f"BLINK_{old.upper()}": f"slurm.{key}" for old, key in EARLIER_KEYS.items()}
SHARD_VARIABLE, DRY_RUN_VARIABLE = "BLINK_SHARD", "BLINK_DRY_RUN"
OTHER_VARIABLES = (FILE_VARIABLE, SHARD_VARIABLE, DRY_RUN_VARIABLE, *EARLIER_VARIABLES)
"""Variables of ours that are no settings."""


class ClusterSettings(Settings):
    """All settings, and the source of each of them."""

    slurm: SlurmSettings = SlurmSettings()
    """How jobs are submitted."""
    paths: Paths = Paths()
    """Folders of data, models and results."""
    data: dict[str, str] = Field(default_factory=dict)
    """Folders of data sets that are not in ``paths.data``, by name."""
    sizes: dict[str, str] = Field(default_factory=DEFAULT_SIZES.copy)
    """Encoders by size, as the launchers name them."""
    flags: dict[str, str] = Field(default_factory=dict)
    """Arguments that are appended to those of a launcher, by kind."""
    file: Path | None = None
    """That was read, if any."""
    origins: dict[str, str] = Field(default_factory=dict)
    """``section.key`` -> the variable, file or flag it comes from; what is not there is a default."""

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
        """Arguments that the settings append to those of a launcher.

        Raises:
            SettingsError: a quotation is not closed.
        """
        try:
            return shlex.split(self.flags.get(kind, ""))
        except ValueError as error:
            raise SettingsError(f"flags.{kind} is {self.flags[kind]!r} ({error}); quote it as a shell would") from error

    def to_environment(self) -> dict[str, str]:
        """Variables by which another process reads the same settings, whatever flags this one was given."""
        values, flags = self.flat(), {name for name, origin in self.origins.items() if origin.startswith("--")}
        variables = {variable: str(values[name]) for variable, name in VARIABLES.items() if name in flags}
        return variables if self.file is None else {FILE_VARIABLE: str(self.file.resolve()), **variables}

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
    path = find_file(environment) if file is None else _require(Path(file), "--settings")
    sources = [] if path is None else [_from_file(path)]
    sources += _from_environment(environment)
    sources += [
        Source(f"--{key.replace('_', '-')}", {"slurm": {key: value}}) for key, value in flags.items() if value is not None
    ]
    about = Source("", {"sizes": DEFAULT_SIZES, "file": path, "origins": origins(sources)})
    return ClusterSettings.load([about, *sources])


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


def _from_file(path: Path) -> Source:
    parser = configparser.ConfigParser(interpolation=None, default_section="", inline_comment_prefixes=(" #", "\t#"))
    try:
        parser.read_string(path.read_text(encoding="utf-8"), str(path))
    except (configparser.Error, UnicodeDecodeError) as error:
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
            if value.strip():  # an empty value is as if not given
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
    """A variable that is nearly one of ours would be ignored in silence."""
    suggestion = meant(name, VARIABLES, 0.85, " (did you mean {}?)")
    if suggestion and name.startswith("BLINK_") and name not in (*VARIABLES, *OTHER_VARIABLES):
        raise SettingsError(f"{name} is no setting{suggestion}; correct or unset it")


def _require_key(section: str, key: str, origin: str) -> None:
    if section in KEYS and key not in KEYS[section]:
        suggestion = meant(key, KEYS[section], form=" (did you mean {!r}?)")
        raise SettingsError(f"{origin}: {key!r} is no key of [{section}]{suggestion}; allowed are {', '.join(KEYS[section])}")
