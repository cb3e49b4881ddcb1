"""Options that the commands of ``blink slurm`` share."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from typing import Any

import click

from blink.apps.options import settings_options
from blink.apps.slurm.follow import FollowOptions
from blink.cluster.settings import DRY_RUN_VARIABLE, EARLIER_KEYS, ClusterSettings, SlurmSettings, load_settings

FLAGS = tuple(name for name in SlurmSettings.model_fields if name != "setup")
"""Settings with a flag; lines of shell are for the file."""


CLUSTER_SECTIONS = {
    "Submission": ("submit", "settings_file", "dry_run", "detach", "merge"),
    "Resources of a job": ("partition", "nodes", "gpus", "processes", "cpus", "mem_gb", "time_min"),
    "Further settings of the cluster": (
        "account",
        "qos",
        "constraint",
        "signal_lead_s",
        "requeues",
        "parallel",
        "shard_rows",
    ),
}
"""Sections of help of the options below; see `blink.apps.sections`."""


def cluster_options(command: Any) -> Any:
    """The options of every command that submits: settings of the cluster, dry run and detaching."""
    switches = (
        ("--dry-run", f"Print the scripts for sbatch, and do nothing. The variable {DRY_RUN_VARIABLE}=1 has the same effect."),
        ("--detach", "Submit and return; the same command waits for the jobs and shows their state."),
    )
    for name, text in reversed(switches):
        command = click.option(name, is_flag=True, help=text)(command)
    earlier = {key: f"--{old.replace('_', '-')}" for old, key in EARLIER_KEYS.items()}
    command = settings_options(SlurmSettings, without=("setup",), defaults=dict.fromkeys(FLAGS), earlier=earlier)(command)
    file = click.option(
        "--settings", "settings_file", metavar="FILE", help="Settings of the cluster.  [default: see blink slurm --help]"
    )
    return file(command)


def merge_option(command: Any) -> Any:
    """The option of commands whose shards are merged."""
    text = "Merge the shards when all are done.  [default: yes]"
    return click.option("--merge/--no-merge", default=True, help=text)(command)


def take_cluster(options: MutableMapping[str, Any]) -> tuple[ClusterSettings, FollowOptions]:
    """The settings and `FollowOptions`, taken out of the options of a command."""
    flags = {name: options.pop(name) for name in FLAGS}
    settings = load_settings(file=options.pop("settings_file"), **flags)
    dry_run = options.pop("dry_run") or os.environ.get(DRY_RUN_VARIABLE, "") not in ("", "0")
    return settings, FollowOptions(dry_run, options.pop("detach"), options.pop("merge", True))
