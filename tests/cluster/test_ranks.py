"""Where a process stands among others, what becomes of signals, and who asks for a new start."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from fake_slurm import FakeSlurm

from blink.cluster import ranks
from blink.cluster.ranks import PORTS, NodeInfo, here, requeue, run_processes
from blink.errors import SettingsError

pytestmark = pytest.mark.quick

ALONE = NodeInfo(0, 1, 1, "127.0.0.1", 20_000)


class TestPlace:
    def test_alone(self) -> None:
        node = here(1, {})
        assert (node.node, node.nodes, node.address) == (0, 1, "127.0.0.1")
        assert node.environment(0) == {}

    def test_ranks_of_all_nodes_are_told_apart(self) -> None:
        environments = [NodeInfo(node, 3, 4, "a", 1).environment(p) for node in range(3) for p in range(4)]
        assert [int(e["RANK"]) for e in environments] == list(range(12))
        assert [int(e["LOCAL_RANK"]) for e in environments] == list(range(4)) * 3
        assert {(e["WORLD_SIZE"], e["LOCAL_WORLD_SIZE"], e["MASTER_ADDR"], e["MASTER_PORT"]) for e in environments} == {
            ("12", "4", "a", "1")
        }

    def test_a_task_of_srun(self, monkeypatch: pytest.MonkeyPatch) -> None:
        environment = {
            "SLURM_STEP_ID": "0", "SLURM_JOB_ID": "77", "SLURM_NODEID": "1", "SLURM_JOB_NUM_NODES": "3",
            "SLURM_JOB_NODELIST": "gpu[07-08],cpu1",
        }  # fmt: skip
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        node = here(8)
        assert (node.node, node.nodes, node.processes, node.address) == (1, 3, 8, "gpu07")
        assert PORTS[0] <= node.port < PORTS[1]
        assert here(8) == node
        monkeypatch.setenv("SLURM_JOB_ID", "78")
        assert here(8).port != node.port

    def test_one_of_several_on_this_machine(self) -> None:
        node = here(2, {"GROUP_RANK": "1", "GROUP_WORLD_SIZE": "2", "MASTER_ADDR": "h", "MASTER_PORT": "5"})
        assert node == NodeInfo(1, 2, 2, "h", 5)


def run(code: str, node: NodeInfo = ALONE, **options: int) -> int:
    return run_processes((sys.executable, "-c", code), node, **options)


class TestProcesses:
    TWO = NodeInfo(0, 1, 2, "127.0.0.1", 20_000)

    def test_success_and_failure(self) -> None:
        assert run("pass") == 0
        assert run("import sys; sys.exit(3)") == 3
        assert run("import os, signal; os.kill(os.getpid(), signal.SIGKILL)") == 128 + 9

    def test_each_has_its_rank(self, tmp_path: Path) -> None:
        code = f"import os; open({str(tmp_path)!r} + '/' + os.environ['RANK'], 'w').write(os.environ['OMP_NUM_THREADS'])"
        os.environ.pop("OMP_NUM_THREADS", None)
        try:
            assert run(code, self.TWO, threads=3) == 0
        finally:
            os.environ["OMP_NUM_THREADS"] = "1"
        assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"0": "3", "1": "3"}

    def test_one_that_fails_ends_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ranks, "GRACE_S", 0.2)
        began = time.monotonic()
        assert run("import os, sys, time; time.sleep(60) if os.environ['RANK'] == '0' else sys.exit(4)", self.TWO) == 4
        assert time.monotonic() - began < 30

    SAVES = """
import signal, sys, time
from pathlib import Path
for number in (signal.SIGUSR1, signal.SIGTERM):
    signal.signal(number, lambda number, frame: (Path({saved!r}).touch(), sys.exit(128 + number)))
Path({ready!r}).touch()
time.sleep(60)
"""

    @pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
    def test_signals_are_handed_on(self, tmp_path: Path, number: int) -> None:
        ready, saved = tmp_path / "ready", tmp_path / "saved"

        def when_ready() -> None:
            until = time.monotonic() + 20
            while not ready.exists() and time.monotonic() < until:
                time.sleep(0.01)
            os.kill(os.getpid(), number)

        thread = threading.Thread(target=when_ready)
        thread.start()
        before = signal.getsignal(number)
        assert run(self.SAVES.format(ready=str(ready), saved=str(saved))) == 128 + number
        thread.join()
        assert saved.exists()
        assert signal.getsignal(number) is before


class TestRequeue:
    def test_outside_of_slurm(self) -> None:
        assert requeue(3, {}) is False

    def test_a_job(self, slurm: FakeSlurm) -> None:
        assert requeue(3, {"SLURM_JOB_ID": "12"})
        assert slurm.calls("scontrol") == ["requeue 12"]

    def test_a_shard_not_its_whole_array(self, slurm: FakeSlurm) -> None:
        assert requeue(3, {"SLURM_JOB_ID": "12", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "7"})
        assert slurm.calls("scontrol") == ["requeue 12_7"]

    def test_only_the_first_node_asks(self, slurm: FakeSlurm) -> None:
        assert requeue(3, {"SLURM_JOB_ID": "12", "SLURM_NODEID": "1"})
        assert slurm.calls("scontrol") == []

    def test_not_for_ever(self, slurm: FakeSlurm) -> None:
        assert requeue(3, {"SLURM_JOB_ID": "12", "SLURM_RESTART_COUNT": "2"})
        with pytest.raises(SettingsError, match=r"time was up 4 times; give jobs more time \(time_min\)"):
            requeue(3, {"SLURM_JOB_ID": "12", "SLURM_RESTART_COUNT": "3"})

    def test_slurm_refuses(self, slurm: FakeSlurm) -> None:
        slurm.refuse("Requested operation is presently disabled for job 12\n")
        with pytest.raises(SettingsError, match=r"Slurm does not queue job 12 again \(Requested operation"):
            requeue(3, {"SLURM_JOB_ID": "12"})
