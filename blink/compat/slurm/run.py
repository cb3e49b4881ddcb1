"""What the original's shell scripts call: ``python -m blink.compat.slurm train|encode|eval ARGUMENT...``.

With BLINK_DRY_RUN set, a script only prints its steps.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from blink.apps.common import guarded, say
from blink.cluster.runs import PARAMETERS, read_parameters, require_model
from blink.cluster.settings import DRY_RUN_VARIABLE, ClusterSettings, load_settings
from blink.compat.slurm.arguments import read_encode_arguments, read_eval_arguments, read_train_arguments
from blink.compat.slurm.plans import Plan, Step, plan_encoding, plan_evaluation, plan_training
from blink.errors import MissingFileError, SettingsError
from blink.files import atomic_open, sha256, write_json
from blink.input_files import open_file

GPUS = (("/proc/driver/nvidia/gpus", "*"), ("/dev", "nvidia[0-9]*"))
"""Where GPUs are seen; containers show but one of them."""


def _evaluation(arguments: Sequence[str], settings: ClusterSettings) -> Plan:
    return plan_evaluation(read_eval_arguments(arguments), settings, gpu=has_gpu())


PLANS: dict[str, tuple[str, Callable[[Sequence[str], ClusterSettings], Plan]]] = {
    "train": ("train_biencoder.sh", lambda arguments, settings: plan_training(read_train_arguments(arguments), settings)),
    "encode": ("run_slurm.sh", lambda arguments, settings: plan_encoding(read_encode_arguments(arguments), settings)),
    "eval": ("run_eval_all_ents_slurm.sh", _evaluation),
}
"""Task -> the script that calls it, and its plan."""


def main(arguments: Sequence[str]) -> int:
    """Run the plan of a script; returns the exit status.

    Args:
        arguments: one of `PLANS`, then the script's arguments.
    """
    kind, *values = arguments or [""]
    if kind not in PLANS:
        return guarded(lambda: _unknown(kind), "launchers")
    script, plan = PLANS[kind]

    def run() -> None:
        settings = load_settings()
        _run(plan(values, settings), settings)

    return guarded(run, script)


def _unknown(kind: str) -> None:
    raise click.UsageError(
        f"{kind!r} is none of {', '.join(PLANS)}; call the scripts: {', '.join(s for s, _ in PLANS.values())}"
    )


def _run(plan: Plan, settings: ClusterSettings) -> None:
    if os.environ.get(DRY_RUN_VARIABLE, "") not in ("", "0"):
        sys.stdout.write("\n".join(plan.lines()) + "\n")
        return
    check(plan)
    for note in plan.notes:
        say(note)
    for step in plan.steps:
        say(step.command_line())
        RUNNERS[step.kind](step, plan, settings)


def check(plan: Plan) -> None:
    """Check that all a plan needs is there.

    Raises:
        MissingFileError: something is not; it is named.
    """
    for path in plan.reads:
        if not path.is_file():
            raise MissingFileError(f"{path} does not exist; {_remedy(path)}")
    for model in plan.models:
        require_model(*model)


def _remedy(path: Path) -> str:
    """How to get a missing file, or to say where it is."""
    published = Path(__file__).resolve().parents[3] / "download_models.sh"
    if path.suffix == ".jsonl" and path.name != "entity.jsonl":
        return "name the folder of the data sets by BLINK_DATA_ROOT or [paths] data of the settings file"
    return f"get it with {published.name} --only {path.name}, or name its folder by BLINK_MODELS_DIR"


def has_gpu() -> bool:
    """Whether a GPU of NVIDIA's is here and may be used; asking torch would take seconds."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    hidden = visible is not None and visible.strip() in ("", "-1", "NoDevFiles")
    return not hidden and any(any(Path(folder).glob(name)) for folder, name in GPUS)


def with_gpus_of_job(settings: ClusterSettings) -> ClusterSettings:
    """The settings, with a process for each GPU that the job was given, unless they say how many there are."""
    slurm, gpus = settings.slurm, os.environ.get("SLURM_GPUS_ON_NODE", "")
    if slurm.processes is not None or slurm.gpus is not None or not gpus.isdecimal():
        return settings
    return settings.replace({"slurm.processes": int(gpus)})


# -- steps --------------------------------------------------------------------------------------------------------------


def _train(step: Step, plan: Plan, settings: ClusterSettings) -> None:
    from blink.cluster.tasks import train_here

    run = plan.writes[0]
    run.mkdir(parents=True, exist_ok=True)
    # The original may have left its settings there, which say how to read its epochs.
    write_json(run / PARAMETERS, {**read_parameters(run / PARAMETERS), **plan.parameters})
    train_here(step.arguments, with_gpus_of_job(settings), say)


def _encode(step: Step, plan: Plan, settings: ClusterSettings) -> None:
    from blink.apps.cli import cli

    cli.main(["slurm", "encode", *step.arguments], prog_name="blink", standalone_mode=False)


def _link(step: Step, plan: Plan, settings: ClusterSettings) -> None:
    from blink.compat.elq.run import main as link

    if status := link(step.arguments):
        raise click.exceptions.Exit(status)


def _copy(step: Step, plan: Plan, settings: ClusterSettings) -> None:
    *sources, target = step.arguments
    copy_model([path for source in sources for path in _files(source)], Path(target))


def _remove(step: Step, plan: Plan, settings: ClusterSettings) -> None:
    for path in step.arguments:
        Path(path).unlink(missing_ok=True)


RUNNERS: dict[str, Callable[[Step, Plan, ClusterSettings], None]] = {
    "train": _train, "encode": _encode, "link": _link, "copy": _copy, "remove": _remove,
}  # fmt: skip


def _files(source: str) -> list[Path]:
    """A file, or, of ``folder/.``, its files."""
    path = Path(source)
    return sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]


def copy_model(files: Sequence[Path], folder: Path) -> None:
    """Copy the files of a model to where vectors of entities go that it makes.

    Raises:
        SettingsError: vectors of another model lie there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vectors = next(folder.glob("*.t7"), None)
    for file in files:
        target = folder / file.name
        if target.is_file() and target.stat().st_size == file.stat().st_size and sha256(target) == sha256(file):
            continue
        if vectors is not None and file.name != PARAMETERS:
            raise SettingsError(
                f"{folder} holds {vectors.name} and perhaps more vectors of another model than {file.parent}; "
                "move the folder away, or remove it"
            )
        with open_file(file) as source, atomic_open(target, "wb") as copy:
            shutil.copyfileobj(source, copy, 1 << 20)
