"""Handing jobs to Slurm, of which only the commands are there, and to this machine."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from fake_slurm import FakeSlurm

from blink.cluster.script import Job, sbatch_script
from blink.cluster.settings import ClusterSettings, SlurmSettings, load_settings
from blink.cluster.submit import ENDED, NEVER, PENDING, RUNNING, SUCCESS, Local, Slurm, State, submitter
from blink.errors import SettingsError

pytestmark = pytest.mark.quick


def job(folder: Path, code: str = "", **changes: object) -> Job:
    return replace(Job("toy", folder, (sys.executable, "-c", code)), **changes)  # type: ignore[arg-type]


def local_of(parallel: int) -> Local:
    return Local(ClusterSettings(slurm=SlurmSettings(parallel=parallel)))


class TestSlurm:
    def test_submits_the_script_and_keeps_it(self, slurm: FakeSlurm, tmp_path: Path) -> None:
        settings = ClusterSettings(slurm=SlurmSettings(partition="learnfair"))
        toy = job(tmp_path / "job", array=(0, 2))
        assert [Slurm(settings).submit(toy) for _ in range(2)] == ["1", "2"]
        assert slurm.script(2) == sbatch_script(toy, settings.slurm)
        assert sorted(p.name for p in toy.log.parent.iterdir()) == ["1_submission.sh", "2_submission.sh"]

    def test_a_job_within_a_job_is_its_own(self, slurm: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SLURM_JOB_ID", "7")
        monkeypatch.setenv("SBATCH_ACCOUNT", "nlp")
        Slurm(ClusterSettings()).submit(job(tmp_path / "job"))
        handed_on = (slurm.folder / "environment").read_text()
        assert "SLURM_JOB_ID" not in handed_on
        assert "SBATCH_ACCOUNT=nlp" in handed_on
        assert os.environ["SLURM_JOB_ID"] == "7"

    def test_states(self, slurm: FakeSlurm) -> None:
        slurm.queue(
            "12_0|COMPLETED|None", "12_1|RUNNING|None", "12_2|PENDING|Priority", "12_3|TIMEOUT|TimeLimit",
            "13|PENDING|Dependency", "14|PENDING|DependencyNeverSatisfied", "15|NODE_FAIL|None",
        )  # fmt: skip
        assert Slurm(ClusterSettings()).states(["12", "13", "14", "15"]) == {
            ("12", 0): State(ENDED, SUCCESS),
            ("12", 1): State(RUNNING, "RUNNING"),
            ("12", 2): State(PENDING, "Priority"),
            ("12", 3): State(ENDED, "TIMEOUT"),
            ("13", None): State(PENDING, "Dependency"),
            ("14", None): State(ENDED, "PENDING"),
            ("15", None): State(ENDED, "NODE_FAIL"),
        }
        assert "--jobs=12,13,14,15" in slurm.calls("squeue")[0]

    def test_jobs_that_are_long_over_are_no_error(self, slurm: FakeSlurm) -> None:
        slurm.fall_silent("slurm_load_jobs error: Invalid job id specified\n")
        assert Slurm(ClusterSettings()).states(["12"]) == {}
        assert Slurm(ClusterSettings()).states([]) == {}

    def test_silence_is_an_error(self, slurm: FakeSlurm) -> None:
        slurm.fall_silent("slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n")
        with pytest.raises(SettingsError, match=r"squeue does not answer \(Unable to contact .*; the jobs go on"):
            Slurm(ClusterSettings()).states(["12"])

    @pytest.mark.parametrize(
        ("response", "variables", "message"),
        [
            (
                "sbatch: error: invalid partition specified: nix\n"
                "sbatch: error: Batch job submission failed: Invalid partition name specified\n",
                {"BLINK_PARTITION": "nix"},
                r"invalid partition specified: nix; .*partition is 'nix' \(from BLINK_PARTITION\), there are: dev, learnfair",
            ),
            (
                "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified\n",
                {"BLINK_ACCOUNT": "nix"},
                r"account is 'nix' \(from BLINK_ACCOUNT\), give one of yours",
            ),
            (
                "sbatch: error: Invalid generic resource (gres) specification\n",
                {"BLINK_GPUS": "8"},
                r"Invalid generic resource \(gres\) specification; gpus is 8 \(from BLINK_GPUS\)",
            ),
            ("sbatch: error: Memory specification can not be satisfied\n", {"BLINK_MEM_GB": "4000"}, "mem_gb is 4000"),
            ("sbatch: error: Invalid feature specification\n", {"BLINK_CONSTRAINT": "x"}, "constraint is 'x'"),
            ("sbatch: error: Unable to contact slurm controller (connect failure)\n", {}, "Unable to contact .*--submit local"),
            ("sbatch: error: No partition specified or system default partition\n", {}, "No partition specified .*settings"),
            (
                "sbatch: error: Batch job submission failed: Invalid job array specification\n",
                {},
                "make fewer and larger shards",
            ),
            ("", {}, "it said nothing"),
        ],
    )
    def test_a_refusal_is_one_line(
        self,
        slurm: FakeSlurm,
        tmp_path: Path,
        capfd: pytest.CaptureFixture[str],
        response: str,
        variables: dict[str, str],
        message: str,
    ) -> None:
        slurm.refuse(response or "\n")
        with pytest.raises(SettingsError, match=message) as error:
            Slurm(load_settings(variables)).submit(job(tmp_path / "job"))
        assert "\n" not in str(error.value)
        assert str(error.value).startswith("Slurm refused the job: ")
        assert capfd.readouterr() == ("", "")


class TestChoice:
    def test_auto(self, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        assert isinstance(submitter(ClusterSettings()), Slurm)
        assert isinstance(submitter(ClusterSettings(slurm=SlurmSettings(submit="local"))), Local)
        monkeypatch.setenv("PATH", str(tmp_path))
        assert isinstance(submitter(ClusterSettings()), Local)
        with pytest.raises(SettingsError, match=r"this machine has no sbatch; .* --submit local"):
            submitter(ClusterSettings(slurm=SlurmSettings(submit="slurm")))


class TestLocal:
    CODE = "import os, sys, time; print('shard', os.environ.get('BLINK_SHARD')); sys.exit(int(os.environ['BLINK_SHARD']) == {})"

    def wait(self, local: Local, *ids: str, seconds: float = 20) -> tuple[dict[tuple[str, int | None], State], int]:
        """The states at the end, and how many tasks ran at once at most."""
        most, until = 0, time.monotonic() + seconds
        while time.monotonic() < until:
            states = dict(local.states(ids))
            most = max(most, sum(s.name == RUNNING for s in states.values()))
            if all(s.name == ENDED for s in states.values()):
                return states, most
            time.sleep(0.01)
        raise AssertionError(f"not over: {states}")

    @pytest.mark.parametrize("parallel", [1, 2])
    def test_some_at_a_time(self, tmp_path: Path, parallel: int) -> None:
        with local_of(parallel) as local:
            name = local.submit(job(tmp_path, self.CODE.format(-1), array=(0, 1, 4)))
            states, most = self.wait(local, name)
        assert states == {(name, n): State(ENDED, SUCCESS) for n in (0, 1, 4)}
        assert most == parallel
        assert (tmp_path / "log" / f"{name}_4.out").read_text() == "shard 4\n"

    def test_what_follows_waits(self, tmp_path: Path) -> None:
        marker = tmp_path / "marker"
        with local_of(2) as local:
            first = local.submit(job(tmp_path, f"import time; time.sleep(.3); open({str(marker)!r}, 'w')"))
            second = local.submit(
                job(tmp_path, f"import os, sys; sys.exit(not os.path.exists({str(marker)!r}))", after=(first,))
            )
            states, most = self.wait(local, first, second)
        assert states[second, None] == State(ENDED, SUCCESS)
        assert most == 1

    def test_what_follows_a_failure_never_begins(self, tmp_path: Path) -> None:
        with local_of(1) as local:
            first = local.submit(job(tmp_path, self.CODE.format(1), array=(0, 1)))
            second = local.submit(job(tmp_path, after=(first,)))
            states, _ = self.wait(local, first, second)
        assert states[first, 0].reason == SUCCESS
        assert states[first, 1] == State(ENDED, "FAILED, exit status 1")
        assert states[second, None] == State(ENDED, NEVER)
        assert not (tmp_path / "log" / f"{second}.out").exists()

    def test_nodes_are_processes_that_know_each_other(self, tmp_path: Path) -> None:
        code = "import os; print(*(os.environ[k] for k in ('GROUP_RANK', 'GROUP_WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT')))"
        with local_of(1) as local:
            name = local.submit(job(tmp_path, code, nodes=2))
            self.wait(local, name)
        lines = sorted(line.split() for line in (tmp_path / "log" / f"{name}.out").read_text().splitlines())
        assert [line[:3] for line in lines] == [[str(i), "2", "127.0.0.1"] for i in range(2)]
        assert lines[0][3] == lines[1][3]

    def test_a_node_that_fails_ends_the_others(self, tmp_path: Path) -> None:
        code = "import os, sys, time; time.sleep(60) if os.environ['GROUP_RANK'] == '0' else sys.exit(3)"
        with local_of(1) as local:
            name = local.submit(job(tmp_path, code, nodes=2))
            states, _ = self.wait(local, name)
        assert states[name, None] == State(ENDED, "FAILED, exit status 3")

    def test_nothing_is_left_behind(self, tmp_path: Path) -> None:
        with local_of(2) as local:
            name = local.submit(job(tmp_path, "import time; time.sleep(60)", array=(0, 1, 2)))
            local.states([name])
            processes = [p for run in local._runs.values() for p in run.processes]
            assert [p.poll() for p in processes] == [None, None]
        assert [p.poll() for p in processes] == [-15, -15]

    def test_tasks_read_the_same_settings(self, tmp_path: Path) -> None:
        file = tmp_path / "site.ini"
        file.write_text("[slurm]\nparallel = 3\n")
        code = "from blink.cluster.settings import *; s = load_settings(); print(s.slurm.parallel, s.slurm.gpus, s.file)"
        with Local(load_settings({}, file, gpus=2)) as local:
            name = local.submit(job(tmp_path, code))
            self.wait(local, name)
        assert (tmp_path / "log" / f"{name}.out").read_text().split() == ["3", "2", str(file)]
        assert "BLINK_GPUS" not in os.environ

    def test_cancel(self, tmp_path: Path) -> None:
        with local_of(1) as local:
            name = local.submit(job(tmp_path, "import time; time.sleep(60)", array=(0, 1)))
            local.states([name])
            local.cancel(name)
            assert set(local.states([name]).values()) == {State(ENDED, "CANCELLED")}
