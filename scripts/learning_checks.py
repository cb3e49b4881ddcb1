"""Checks that each task under examples/ overfits its tiny set, that evaluation repeats, and that killed runs resume.

    python scripts/learning_checks.py                          all tasks; a table in examples/learning.md
    python scripts/learning_checks.py ner pretraining --seed 3 --out checks.md

For each task the commands under "Try it" are run unchanged and timed together. The weights are evaluated again from
the checkpoint: the scores must be the same. Then the last training is repeated in another folder, killed without
warning after randomly drawn steps, and resumed by --resume: weights and scores must be the same, bit for bit.
Failures are named, and the exit status is 1.
"""

from __future__ import annotations

import os
import platform
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from blink.apps.common import say
from blink.errors import DataError, SettingsError
from blink.files import read_json
from scripts.harness import ROOT, markdown_table, run_script, write_page

SCORES = {
    "entity-typing": {"dev_f1": 1.0, "test_f1": 1.0},
    "relation-classification": {"dev_f1": 1.0, "test_f1": 1.0},
    "ner": {"dev_f1": 1.0, "test_f1": 1.0},
    "entity-span-qa": {"dev_exact_match": 100.0, "dev_f1": 100.0},
    "reading-comprehension": {"exact": 100.0, "f1": 100.0},
    "entity-disambiguation": {"dev_accuracy": 1.0, "test_accuracy": 1.0},
    "pretraining": {"entity_accuracy": 1.0},
}
"""Task -> score of its results -> its target."""
LIMIT_S = 60.0
"""Of computing, for all commands of a task; one thread takes no longer on the clock, where nothing else runs."""
KILLS = 2
PATIENCE_S = 600.0
HEAD = """# Learning checks

Written by `python scripts/learning_checks.py`. For each task it runs the commands under "Try it" in the task's README
unchanged; the scores must be 100 %. *Seconds* is the wall-clock time of all of them, the tiny model included;
*computing* is their CPU time, which is the wall-clock time of one thread on an idle machine: at most 60; *training* is
the wall-clock time of the last training. *Again*: `--checkpoint-file --no-train` gives the same scores, every digit.
*Killed*: SIGKILL after these randomly drawn steps, then `--resume`; weights and scores equal those of the uninterrupted
run, every bit.

"""


@dataclass
class Checked:
    """What a task showed.

    Attributes:
        task: its name.
        scores: those that must be 100 %.
        wall_s, cpu_s: of all commands of its README.
        training_s: of the last training among them, on the clock.
        again: whether its weights gave the same scores; None where there is no such command.
        killed: steps behind which it was killed.
        wrong: what falls short.
    """

    task: str
    scores: dict[str, float]
    wall_s: float
    cpu_s: float
    training_s: float
    again: bool | None = None
    killed: list[int] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def row(self) -> list[str]:
        """Its cells of the table."""
        scores = ", ".join(f"{name} {value:g}" for name, value in self.scores.items())
        again = {None: "–", True: "the same", False: "**other**"}[self.again]
        after = "**other**" if any("killed" in line for line in self.wrong) else "the same"
        steps = f"{', '.join(map(str, self.killed))}: {after}"
        return [f"`{self.task}`", scores, *(f"{s:.0f}" for s in (self.wall_s, self.cpu_s, self.training_s)), again, steps]


def try_it(task: str) -> str:
    """The shell lines under "Try it" in a task's README."""
    page = (ROOT / "examples" / task.replace("-", "_") / "README.md").read_text(encoding="utf-8")
    block = re.search(r"^## Try it.*?^```bash\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    if block is None:
        raise DataError(f"the README of {task} has no shell lines under 'Try it'")
    return block.group(1)


def run_lines(lines: str, folder: Path) -> list[tuple[list[str], float]]:
    """Run shell lines, their ``out/`` in a folder; returns the words of each call of Python, and its seconds.

    Raises:
        SettingsError: one of them failed.
    """
    log = folder / "calls"
    noted = 'python() { local t=$EPOCHREALTIME; command python "$@"; local s=$?; printf "%s\\x1f" "$@" >>"$LOG"; '
    noted += 'echo "$t $EPOCHREALTIME" >>"$LOG"; return $s; }\n'
    lines = re.sub(r"(?<![\w/])out/", f"{folder}/", lines)
    env = environment() | {"LOG": str(log)}
    done = subprocess.run(["bash", "-ec", noted + lines], cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
        raise SettingsError(f"the commands of the README ended with status {done.returncode}: {last}")
    calls = []
    for line in log.read_text(encoding="utf-8").splitlines():
        *words, times = line.split("\x1f")
        start, end = map(float, times.split())
        calls.append((words, end - start))
    return calls


def environment() -> dict[str, str]:
    """That of the commands: without network, and ``python`` is this one."""
    return {**os.environ, "HF_HUB_OFFLINE": "1", "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def with_output(words: Sequence[str], folder: Path) -> list[str]:
    """The words of a command with another output folder."""
    at = next(i for i, word in enumerate(words) if word.startswith("--output-dir"))
    if "=" in words[at]:
        return [*words[:at], f"--output-dir={folder}", *words[at + 1 :]]
    return [*words[: at + 1], str(folder), *words[at + 2 :]]


def output_of(words: Sequence[str]) -> Path:
    """Its output folder."""
    at = next(i for i, word in enumerate(words) if word.startswith("--output-dir"))
    return Path(words[at].partition("=")[2] or words[at + 1])


def start(words: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a command in silence."""
    return subprocess.Popen([sys.executable, *words], cwd=ROOT, env=environment(), stderr=subprocess.DEVNULL)


def steps_of(folder: Path) -> int:
    """Steps that a run has noted."""
    trace = folder / "trace.jsonl"
    return trace.read_bytes().count(b'"kind": "step"') if trace.is_file() else 0


def kill_on_the_way(words: Sequence[str], folder: Path, after: int, chance: random.Random) -> int:
    """Start a command and kill it without warning some time after a step; returns the steps that it had noted.

    Raises:
        SettingsError: it ended by itself.
    """
    process, patience = start(words), time.monotonic() + PATIENCE_S
    while steps_of(folder) < after and process.poll() is None and time.monotonic() < patience:
        time.sleep(0.005)
    time.sleep(chance.random() * 0.05)
    process.kill()
    if process.wait() >= 0:
        raise SettingsError(f"{' '.join(words)} ended with status {process.returncode} before it was killed")
    return steps_of(folder)


def weights(folder: Path) -> bytes:
    """The file of weights that a run leaves."""
    return next(f for f in (folder / "model.safetensors", folder / "model" / "model.safetensors") if f.is_file()).read_bytes()


def final(folder: Path) -> dict[str, float]:
    """Scores of a run, without those of its epochs."""
    return {name: value for name, value in read_json(folder / "results.json").items() if "epoch" not in name}


def check(task: str, folder: Path, chance: random.Random) -> Checked:
    """Check a task, in a folder of its own."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    calls = run_lines(try_it(task), folder)
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    words, seconds = [c for c in calls if ({"run", "train"} & set(c[0])) and "--no-train" not in c[0]][-1]
    first = output_of(words)
    required = SCORES[task]
    checked = Checked(task, {name: final(first)[name] for name in required}, wall, cpu, seconds)
    checked.wrong += [
        f"{name} is {checked.scores[name]}, not {whole}" for name, whole in required.items() if checked.scores[name] < whole
    ]
    if cpu > LIMIT_S:
        checked.wrong.append(f"its commands took {cpu:.0f} seconds of computing")
    if task != "pretraining":
        checked.again = same_again(words, folder)
        checked.wrong += [] if checked.again else ["--no-train gives other scores"]
    checked.wrong += same_after_kills(words, folder, checked.killed, chance)
    return checked


def same_again(words: Sequence[str], folder: Path) -> bool:
    """Whether the weights of a training, evaluated from the checkpoint, give its scores; without the model it began with."""
    first, second = output_of(words), folder / "evaluated"
    arguments = [word for word in with_output(words, second) if not word.startswith("--model-file=")]
    status = start([*arguments, "--no-train", f"--checkpoint-file={first}"]).wait()
    return status == 0 and final(second) == final(first)


def same_after_kills(words: Sequence[str], folder: Path, killed: list[int], chance: random.Random) -> list[str]:
    """Kill and resume a training twice; returns the differences from an uninterrupted one."""
    first, other = output_of(words), folder / "killed"
    total = steps_of(first)
    again = with_output(words, other)
    for after in sorted(chance.sample(range(1, total * 9 // 10), KILLS)):  # later, it might end before it is killed
        killed.append(kill_on_the_way([*again, *(["--resume"] if killed else [])], other, after, chance))
    if start([*again, "--resume"]).wait():
        return ["killed, it does not go on"]
    wrong = [] if weights(other) == weights(first) else ["killed and resumed, it has other weights"]
    return wrong if read_json(other / "results.json") == read_json(first / "results.json") else [*wrong, "killed: other scores"]


def machine() -> str:
    """What it ran on."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*: (.*)$", info.read_text(), re.MULTILINE) if info.is_file() else []
    name = names[0] if names else platform.processor() or platform.machine()
    threads = os.environ.get("OMP_NUM_THREADS", "as many as cores")
    versions = ", ".join(f"{package} {version(package)}" for package in ("torch", "transformers"))
    loads = " ".join(f"{load:.1f}" for load in os.getloadavg())
    return f"{name}, {os.cpu_count()} cores; threads: {threads}; {versions}; load when it ended (1, 5, 15 minutes): {loads}"


def write_table(out: Path, checks: Sequence[Checked], seed: int) -> None:
    """Write the page."""
    head = ["task", "scores", "seconds", "computing", "training", "again", "killed"]
    table = markdown_table(head, [check.row() for check in checks])
    write_page(out, f"{HEAD}{machine()}. Steps drawn with seed {seed}.\n\n{table}\n")


@click.command()
@click.argument("tasks", nargs=-1, type=click.Choice(list(SCORES)))
@click.option("--seed", type=int, default=0, show_default=True, help="Of the steps behind which runs are killed.")
@click.option(
    "--out", default=str(ROOT / "examples" / "learning.md"), metavar="FILE", help="The table.  [default: examples/learning.md]"
)
def main(tasks: Sequence[str], seed: int, out: str) -> None:
    """Check that the tasks overfit their tiny sets, and that evaluation and resuming give the same results.

    \b
    Example:
      python scripts/learning_checks.py entity-typing --out checks.md
    """
    chance, checks = random.Random(seed), []
    for task in tasks or SCORES:
        folder = Path(tempfile.mkdtemp(prefix="learning-"))
        try:
            checks.append(check(task, folder, chance))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        say(f"{' | '.join(checks[-1].row())} {'; '.join(checks[-1].wrong) or 'passed'}")
        write_table(Path(out), checks, seed)
    if any(checked.wrong for checked in checks):
        raise SettingsError(f"targets are not met: {'; '.join(f'{c.task}: {w}' for c in checks for w in c.wrong)}")


if __name__ == "__main__":
    run_script(main, "learning_checks")
