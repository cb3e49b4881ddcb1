"""``blink slurm``: jobs of a Slurm cluster, or of this machine."""

from __future__ import annotations

import click

from blink.apps.lazy import HIDDEN, LazyGroup

COMMANDS = {
    "train": ("blink.apps.slurm.train:train", "Train on several nodes, in a process per GPU on each."),
    "encode": ("blink.apps.slurm.encode:encode", "Encode a catalogue in shards, and make a knowledge base of them."),
    "eval": ("blink.apps.slurm.evaluate:evaluate_files", "Evaluate on mention files, a job for each."),
    "link": ("blink.apps.slurm.link:link", "Link the lines of a file, in shards."),
    "settings": ("blink.apps.slurm.settings:settings", "Print each setting of the cluster, its value, and its source."),
    "task": ("blink.apps.slurm.task:task", HIDDEN),
}
"""Name -> where the command is, and its short help."""


@click.group(cls=LazyGroup, table=COMMANDS)
def slurm() -> None:
    """Train, encode, evaluate and link as jobs of a Slurm cluster.

    Where there is no Slurm the same commands do the same on this machine. A command waits for its jobs and shows how
    they are; after an interrupt the same command continues: finished shards are kept, waiting and running jobs stay, and
    only missing shards are submitted. Jobs save and queue themselves again when their time is up or they are pre-empted.

    Partition, account, GPUs, time and so on come from flags, else from the environment (BLINK_PARTITION ...), else from a
    file: that which BLINK_CLUSTER names, or cluster.ini here, or ~/.config/blink/cluster.ini; see examples/cluster.ini.

    \b
    Try:
      blink slurm settings                                 and their sources
      blink slurm encode entity.jsonl --out my-kb          a knowledge base
      blink slurm encode entity.jsonl --out my-kb --dry-run
      blink slurm link texts.txt --shards 100 --out links.jsonl
    """
