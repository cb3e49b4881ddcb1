"""Processes of distributed training: ranks, starting the processes of a node, and forwarding signals.

Slurm starts one task per node (``srun``), which starts a process per GPU with the environment variables of torch.distributed
and accelerate. ``torchrun`` may be used instead.
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
"""Signals that are forwarded to the processes. The terminal itself sends Ctrl-C to them."""
STOPPED = 128 + signal.SIGUSR1
"""Exit status of a process that was stopped at its time limit and has saved a checkpoint."""
PORTS = (20_000, 30_000)
GRACE_S = 10.0
"""Seconds until other processes are killed after one has failed, because they may wait for it forever."""


@dataclass(frozen=True)
class NodeInfo:
    """Rank of a node, and the rendezvous address.

    Attributes:
        node: rank of the node.
        nodes: number of nodes.
        processes: processes per node.
        address: address of the first node.
        port: port on the first node.
    """

    node: int
    nodes: int
    processes: int
    address: str
    port: int

    def environment(self, process: int) -> dict[str, str]:
        """Environment variables of a process of this node; empty for a single process."""
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


def here(processes: int, environment: Mapping[str, str] | None = None) -> NodeInfo:
    """The node of this process, from the variables of ``srun`` or ``torchrun``, or a single node."""
    environment = os.environ if environment is None else environment
    if "SLURM_STEP_ID" in environment:
        from submitit.slurm.slurm import SlurmJobEnvironment

        slurm = SlurmJobEnvironment()
        # The same for all nodes of a job, but different for other jobs on the same nodes.
        port = random.Random(slurm.raw_job_id).randrange(*PORTS)
        return NodeInfo(slurm.node, slurm.num_nodes, processes, slurm.hostnames[0], port)
    if "GROUP_RANK" in environment:
        address, port = environment["MASTER_ADDR"], int(environment["MASTER_PORT"])
        return NodeInfo(int(environment["GROUP_RANK"]), int(environment["GROUP_WORLD_SIZE"]), processes, address, port)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return NodeInfo(0, 1, processes, "127.0.0.1", free.getsockname()[1])


def run_processes(command: Sequence[str], node: NodeInfo, threads: int | None = None) -> int:
    """Run a command in all processes of this node, and forward `FORWARDED` signals.

    Args:
        command: the command of each process.
        node: the node.
        threads: threads per process, unless OMP_NUM_THREADS is set.

    Returns:
        0, `STOPPED` if they saved at the time limit, or the exit status of the first failed process.
    """
    count = {} if threads is None or "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(threads)}
    started: list[subprocess.Popen[bytes]] = []
    with _forwarding(started):
        for process in range(node.processes):
            started.append(subprocess.Popen(command, env={**os.environ, **count, **node.environment(process)}))
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
    """Exit status of the first failed process, as in a shell; 0 if none has failed."""
    status = next((s for s in (process.poll() for process in processes) if s), 0)
    return 128 - status if status < 0 else status


def requeue(limit: int, environment: Mapping[str, str] | None = None) -> bool:
    """Requeue this Slurm job, or this shard of it; returns whether there is a Slurm job.

    Raises:
        SettingsError: it was requeued ``limit`` times before, or Slurm refuses.
    """
    environment = os.environ if environment is None else environment
    if "SLURM_JOB_ID" not in environment:
        return False
    times = int(environment.get("SLURM_RESTART_COUNT") or 0)
    if times >= limit:
        raise SettingsError(f"time was up {times + 1} times; give jobs more time (time_min), or allow more requeues")
    if environment.get("SLURM_NODEID", "0") != "0":
        return True  # the first node requeues the job
    array, shard = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
    # The last shard of an array has the id of the array, which would requeue all shards.
    name = f"{array}_{shard}" if array and shard else environment["SLURM_JOB_ID"]
    done = subprocess.run(["scontrol", "requeue", name], capture_output=True, text=True, check=False)
    if done.returncode:
        message = " ".join(done.stderr.split())
        raise SettingsError(
            f"Slurm does not queue job {name} again ({message}); what is done is kept: give the same command again"
        )
    return True
