"""The processes of a training: where each stands among them, how a node starts its own, and what becomes of signals.

Slurm starts one task on each node (``srun``); that starts a process per GPU with the variables that torch.distributed and
accelerate read. So does ``torchrun``, which may be used instead of it.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType

from blink.errors import SettingsError

FORWARDED = (signal.SIGUSR1, signal.SIGTERM)
"""Signals that are handed to the processes. Ctrl-C reaches them from the terminal itself."""
STOPPED = 128 + signal.SIGUSR1
"""Exit status of a process that was told that time is up, and has saved."""
PORTS = (20_000, 30_000)
GRACE_S = 10.0
"""How long the others may take to end where one has failed: they may wait for it and hear nothing."""


@dataclass(frozen=True)
class Place:
    """Where this node stands.

    Attributes:
        node: its number.
        nodes: how many there are.
        processes: on each of them.
        address: of the first node.
        port: there.
    """

    node: int
    nodes: int
    processes: int
    address: str
    port: int

    def environment(self, process: int) -> dict[str, str]:
        """The variables of one of this node's processes; nothing for a process that is alone."""
        if self.nodes * self.processes == 1:
            return {}
        return {
            "MASTER_ADDR": self.address,
            "MASTER_PORT": str(self.port),
            "RANK": str(self.node * self.processes + process),
            "WORLD_SIZE": str(self.nodes * self.processes),
            "LOCAL_RANK": str(process),
            "LOCAL_WORLD_SIZE": str(self.processes),
        }


def here(processes: int, environment: Mapping[str, str] | None = None) -> Place:
    """Where this process stands: as a task that ``srun`` started, as one of several on this machine, or alone."""
    environment = os.environ if environment is None else environment
    if "SLURM_STEP_ID" in environment:
        from submitit.slurm.slurm import SlurmJobEnvironment

        slurm = SlurmJobEnvironment()
        # The same for all nodes of a job, and another for the next job on the same nodes.
        port = random.Random(slurm.raw_job_id).randrange(*PORTS)
        return Place(slurm.node, slurm.num_nodes, processes, slurm.hostnames[0], port)
    if "GROUP_RANK" in environment:
        address, port = environment["MASTER_ADDR"], int(environment["MASTER_PORT"])
        return Place(int(environment["GROUP_RANK"]), int(environment["GROUP_WORLD_SIZE"]), processes, address, port)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return Place(0, 1, processes, "127.0.0.1", free.getsockname()[1])


def run_processes(command: Sequence[str], place: Place, threads: int | None = None) -> int:
    """Run a command as all processes of this node; signals of `FORWARDED` are handed on.

    Args:
        command: what each runs.
        place: where the node stands.
        threads: of each process, unless OMP_NUM_THREADS is set.

    Returns:
        0, `STOPPED` where they saved because time was up, or the exit status of the first that failed.
    """
    count = {} if threads is None or "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(threads)}
    started: list[subprocess.Popen[bytes]] = []
    with _forwarding(started):
        for process in range(place.processes):
            started.append(subprocess.Popen(command, env={**os.environ, **count, **place.environment(process)}))
        return _wait(started)


@contextlib.contextmanager
def _forwarding(processes: list[subprocess.Popen[bytes]]) -> Iterator[None]:
    def hand_on(number: int, frame: FrameType | None) -> None:
        for process in processes:
            if process.poll() is None:
                process.send_signal(number)

    before = {number: signal.signal(number, hand_on) for number in FORWARDED}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(processes: Sequence[subprocess.Popen[bytes]]) -> int:
    failed_at = None
    first = 0
    while any(process.poll() is None for process in processes):
        time.sleep(0.05)
        first = first or _first_failure(processes)
        if first and failed_at is None:
            failed_at = time.monotonic()
        if failed_at is not None and time.monotonic() > failed_at + GRACE_S:
            for process in processes:
                process.kill()
    return first or _first_failure(processes)


def _first_failure(processes: Sequence[subprocess.Popen[bytes]]) -> int:
    """The exit status of a process that did not succeed, as a shell would give it; 0 where none has failed so far."""
    status = next((s for s in (process.poll() for process in processes) if s), 0)
    return 128 - status if status < 0 else status


def requeue(limit: int, environment: Mapping[str, str] | None = None) -> bool:
    """Ask Slurm to run this job, or this shard of it, again; says whether there was a Slurm to ask.

    Raises:
        SettingsError: it was queued again ``limit`` times before, or Slurm refuses.
    """
    environment = os.environ if environment is None else environment
    if "SLURM_JOB_ID" not in environment:
        return False
    times = int(environment.get("SLURM_RESTART_COUNT") or 0)
    if times >= limit:
        raise SettingsError(f"time was up {times + 1} times; give jobs more time (time_min), or allow more requeues")
    if environment.get("SLURM_NODEID", "0") != "0":
        return True  # the first node asks for all
    array, shard = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
    # The last shard of an array has the array's own id, which would mean all of them.
    name = f"{array}_{shard}" if array and shard else environment["SLURM_JOB_ID"]
    done = subprocess.run(["scontrol", "requeue", name], capture_output=True, text=True, check=False)
    if done.returncode:
        message = " ".join(done.stderr.split())
        raise SettingsError(
            f"Slurm does not queue job {name} again ({message}); what is done is kept: give the same command again"
        )
    return True
