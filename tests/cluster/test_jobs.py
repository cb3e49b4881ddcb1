"""A job's folder: plans that go on or differ, records that hold what was made to account, logs and submissions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blink.cluster.jobs import JobFolder, Plan, Submission, split_evenly, split_into_shards, tail
from blink.errors import DataError, MismatchError, MissingFileError

pytestmark = pytest.mark.quick

PLAN = Plan("encode", {"out": "kb", "shard_rows": 4}, {"catalogue": "abc"}, ((0, 4), (4, 8), (8, 10)), "entity")


@pytest.fixture
def job(tmp_path: Path) -> JobFolder:
    folder = JobFolder(tmp_path / "kb" / "slurm")
    folder.begin(PLAN)
    return folder


def finish(job: JobFolder, shard: int) -> Path:
    file = job.path.parent / f"{shard}.npy"
    file.write_bytes(bytes(100 + shard))
    start, end = PLAN.shards[shard]
    job.finish(shard, end - start, [file])
    return file


class TestPlan:
    def test_the_same_goes_on(self, job: JobFolder) -> None:
        finish(job, 0)
        again = JobFolder(job.path)
        again.begin(PLAN)
        assert again.plan() == PLAN
        assert again.missing() == [1, 2]

    @pytest.mark.parametrize(
        ("other", "differing"),
        [
            (replace(PLAN, inputs={"catalogue": "abd"}), "other catalogue;"),
            (replace(PLAN, work={"out": "kb", "shard_rows": 5}, shards=((0, 5), (5, 10))), "other shard_rows, shards;"),
            (replace(PLAN, kind="link"), "other kind;"),
        ],
    )
    def test_another_is_refused(self, job: JobFolder, other: Plan, differing: str) -> None:
        with pytest.raises(MismatchError, match=differing):
            JobFolder(job.path).begin(other)

    def test_no_folder_of_a_job(self, tmp_path: Path) -> None:
        with pytest.raises(MissingFileError, match=r"is no folder of a job \(no job.json\)"):
            JobFolder(tmp_path).plan()

    @pytest.mark.parametrize("text", ['{"format": 1}', '{"format": 2}', "[]"])
    def test_a_damaged_plan(self, job: JobFolder, text: str) -> None:
        (job.path / "job.json").write_text(text)
        with pytest.raises(DataError, match=r"remove .* and start again"):
            JobFolder(job.path).plan()

    def test_names(self) -> None:
        assert PLAN.name(2) == "shard 2 (entities 8 to 10)"
        assert replace(PLAN, unit="text").name(0) == "shard 0 (texts 0 to 4)"

    def test_part_of_another(self) -> None:
        plan = replace(PLAN, work={"out": "kb", "shard_rows": 2}, shards=((8, 10),))
        assert plan.is_shard_of(PLAN, 2)
        assert not plan.is_shard_of(PLAN, 1)
        assert not plan.is_shard_of(replace(PLAN, inputs={"catalogue": "abd"}), 2)


class TestShards:
    def test_sound_ones_give_their_files(self, job: JobFolder) -> None:
        file = finish(job, 1)
        assert job.is_done(1)
        assert [f.resolve() for f in job.check(1)] == [file.resolve()]

    def test_the_folder_may_be_moved(self, job: JobFolder) -> None:
        finish(job, 1)
        moved = job.path.parent.rename(job.path.parent.with_name("moved"))
        assert [f.resolve() for f in JobFolder(moved / "slurm").check(1)] == [moved / "1.npy"]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (lambda file: file.unlink(), r"1\.npy is missing"),
            (lambda file: file.write_bytes(file.read_bytes()[:50]), r"1\.npy has changed \(50 bytes\)"),
            (lambda file: file.write_bytes(b"x" + file.read_bytes()[1:]), r"1\.npy has changed \(101 bytes\)"),
        ],
    )
    def test_damaged_ones_are_named_and_made_anew(self, job: JobFolder, content: object, message: str) -> None:
        content(finish(job, 1))  # type: ignore[operator]
        with pytest.raises(
            MismatchError, match=rf"shard 1 \(entities 4 to 8\) is not sound: .*{message}.*processes this shard again"
        ):
            job.check(1)
        assert 1 in job.missing()

    def test_one_that_left_nothing(self, job: JobFolder) -> None:
        with pytest.raises(MismatchError, match=r"shard 2 \(entities 8 to 10\) is not sound: it left no record"):
            job.check(2)

    def test_one_with_too_few_rows(self, job: JobFolder) -> None:
        job.finish(0, 3, [])
        with pytest.raises(MismatchError, match="it has 3 rows, expected 4"):
            job.check(0)

    def test_progress(self, job: JobFolder) -> None:
        assert job.noted(0) == 0
        job.note(0, 3)
        assert job.noted(0) == 3
        job.note(0, 99)
        assert job.noted(0) == 4
        finish(job, 2)
        assert job.noted(2) == 2
        (job.path / "progress" / "00000").write_text("half")
        assert job.noted(0) == 0


class TestEnd:
    def test_merged(self, job: JobFolder) -> None:
        assert not job.is_merged()
        merged = job.path.parent / "all.t7"
        merged.write_text("all")
        job.merged([merged])
        assert job.is_merged()
        merged.write_text("other")
        with pytest.raises(MismatchError, match=r"all\.t7 has changed .* since it was made"):
            job.is_merged()

    def test_submissions(self, job: JobFolder) -> None:
        assert job.submissions() == []
        submissions = [Submission("12", (0, 2)), Submission("13", ())]
        for submission in submissions:
            job.submitted(submission)
        with (job.path / "submitted.jsonl").open("a") as f:
            f.write('{"id": "1')  # a kill while it was written
        assert job.submissions() == submissions
        job.submitted(Submission("14", (5,)))
        assert job.submissions() == [*submissions, Submission("14", (5,))]

    @pytest.mark.parametrize("line", ["{}", "7}", '{"id": 1, "shards": ["a"]}', '{"id": 1, "shards": 3}', "[{}", "\x00}"])
    def test_a_damaged_submission_is_named(self, job: JobFolder, line: str) -> None:
        job.submitted(Submission("12", (0, 2)))
        with (job.path / "submitted.jsonl").open("a") as f:
            f.write(f"{line}\n")
        with pytest.raises(DataError, match=r"submitted\.jsonl, line 2"):
            job.submissions()

    def test_logs(self, job: JobFolder) -> None:
        log = job.log_file("12", 3)
        assert log.name == "12_3.out"
        assert tail(log) == []
        log.write_text("one\n\rbar 1\rbar 2\nlast line\n\n")
        assert tail(log, 2) == ["bar 2", "last line"]
        log.write_text("x" * 200_000 + "\nthe end\n")
        assert tail(log, 1) == ["the end"]


@given(st.integers(0, 500), st.integers(1, 60))
def test_cuts_hold_every_unit_once(count: int, size: int) -> None:
    for shards in (split_into_shards(count, size), split_evenly(count, size)):
        covered = [n for start, end in shards for n in range(start, end)]
        assert covered == list(range(count))
    assert all(end - start <= size for start, end in split_into_shards(count, size))
    if count:
        sizes = [end - start for start, end in split_evenly(count, size)]
        assert len(sizes) == min(size, count)
        assert max(sizes) - min(sizes) <= 1
