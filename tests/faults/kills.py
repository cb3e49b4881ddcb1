"""Kill commands at random moments, and give them again until they end: the same results as undisturbed, and no left-over file.

    python -m tests.faults.kills --kills 100             a table of all commands
    python -m tests.faults.kills --kills 12 --only train

Two of three kills are SIGKILL, the others SIGTERM or SIGHUP. A moment is drawn from the time that the command takes
undisturbed, so the moments spread over all it does. Commands run in forked processes of one that has imported their libraries:
what is hit is their work. Jobs of ``blink slurm`` are processes of their own, killed as a group.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VOLATILE = (
    "trace.jsonl",
    "curves.png",
    "submitted.jsonl",
    "links.jsonl.slurm",
    "log",
    "progress",
    "checkpoints",
    ".downloads.json",
    "README.md",
)
"""Files and folders with times, costs or names of processes in them."""
TIMES = ("seconds", "speed", "cost", "epoch_s", "minutes", "host", "command", "git", "versions", "time", "execution", "memory")
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGHUP)
LIMIT_S = 300.0
SETTLED_S = 1.1
"""Seconds after which a file that is not locked is taken for a left-over, see `blink.left_overs`."""


@dataclass(frozen=True)
class Command:
    """A command that is killed.

    Attributes:
        run: does its work in a folder, whose results are in ``out``; again after a kill.
        needs: what writes its inputs beside that folder, in this order.
        forks: whether it starts processes of its own.
    """

    run: Callable[[Path], None]
    needs: tuple[Callable[[Path], None], ...] = ()
    forks: bool = False


@dataclass
class Row:
    """What came of the kills of one command."""

    name: str
    seconds: float = 0.0
    kills: int = 0
    during: int = 0
    runs: int = 0
    unequal: int = 0
    left: int = 0
    signals: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def blink(*arguments: object) -> None:
    """The ``blink`` command in this process."""
    from blink.apps.cli import cli

    cli.main([str(argument) for argument in arguments], prog_name="blink", standalone_mode=False)


# -- what the commands read -------------------------------------------------------------------------------------------


def texts(folder: Path) -> None:
    """An encoder, a knowledge base of 24 entities, a catalogue of more, and texts with and without labels."""
    import toys

    from blink.model.loading import load_model

    encoder = load_model(toys.base_folder(folder / "base"), context=False, candidate=True)
    base = toys.knowledge_base(folder / "kb", encoder, toys.rows(24))
    toys.write_catalogue(folder / "entity.jsonl", toys.rows(400, seed=1))
    lines = []
    for i in range(48):
        title = base.catalogue.title(i % 24)
        lines.append({"id": str(i), "text": f"where is {title}?", "mentions": [[9, 9 + len(title)]], "label_id": [i % 24]})
    for name, rows in (("train", lines), ("dev", lines[:12])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "texts.txt").write_text("".join(f"{row['text']} and {i}\n" for i, row in enumerate(lines * 12)))
    (folder / "few.txt").write_text("".join(f"{row['text']} and {i}\n" for i, row in enumerate(lines[:24])))


def model(folder: Path) -> None:
    """A model with its knowledge base."""
    import toys

    toys.model(3).save_pretrained(folder / "model")
    toys.knowledge_base(folder / "model-kb", toys.model(3), toys.rows(24))


def folds(folder: Path) -> None:
    """Models of the two halves of the texts, and one of all with a reranker."""
    for name, half in (("a", "0/2"), ("b", "1/2")):
        _train(folder, folder / "folds" / name, "--epochs", 1, "--leave-out", half)
    _train(folder, folder / "whole", "--epochs", 1)
    shutil.copytree(folder / "whole" / "best", folder / "ranked")
    _rank(folder, folder / "ranked")


def graphs(folder: Path) -> None:
    """Settings of runs on graphs and texts."""
    from tests.kglm import glove_toys, graph_toys, lm_toys

    graph = graph_toys.toy_settings(
        graph_toys.family(folder / "family"), train__epochs=150, stop__every=10, train__save_epochs=5
    )
    graph.write(folder / "graph.yaml")
    world = lm_toys.write_world(folder / "world")
    lm_toys.settings_for(world, "lm", {"train.epochs": 12}).write(folder / "lm.yaml")
    lm_toys.settings_for(world, "joint", {"train.epochs": 8}).write(folder / "joint.yaml")
    glove_toys.settings(glove_toys.data(folder / "places"), **{"train.epochs": 60}).write(folder / "glove.yaml")


def tiny_luke(folder: Path) -> None:
    """A LUKE of random weights."""
    from examples.cli import cli

    cli.main(["make-tiny-model", str(folder / "luke")], prog_name="examples", standalone_mode=False)


def site(folder: Path) -> None:
    """A file to download."""
    import numpy as np

    (folder / "site").mkdir()
    (folder / "site" / "big.bin").write_bytes(np.random.default_rng(0).bytes(24_000_000))


QUICK = ("--batch-size", 8, "--precision", "fp32", "--device", "cpu", "--learning-rate", 0.02, "--head-learning-rate", 0.02)


def _train(folder: Path, out: Path, *more: object) -> None:
    data = ("--train", folder / "train.jsonl", "--dev", folder / "dev.jsonl", "--kb", folder / "kb", "--model", folder / "base")
    blink("train", *data, *QUICK, "--out", out, *more)


def _rank(folder: Path, model: Path) -> None:
    folds = ("--fold", folder / "folds" / "a", "--fold", folder / "folds" / "b")
    fit = ("--floor", -9, "--epochs", 30, "--batch-size", 128, "--members", 1, "--absent", 0)
    blink("rank", model, "--kb", folder / "kb", "--train", folder / "train.jsonl", *fit, *folds)


# -- commands: the folder of a series has `out`; what it reads is beside it ------------------------------------


def build(work: Path) -> None:
    model = ("--model", work.parent / "base", "--precision", "fp32", "--device", "cpu")
    blink("kb", "build", work.parent / "entity.jsonl", "--out", work / "out", *model, "--chunk-rows", 20)


def rebuild(work: Path) -> None:
    """Over an older knowledge base."""
    if not (work / "out").exists():
        shutil.copytree(work.parent / "kb", work / ".old")
        (work / ".old").rename(work / "out")
    build(work)


def train(work: Path) -> None:
    begun = (work / "out" / "trace.jsonl").is_file()
    _train(work.parent, work / "out", "--epochs", 4, "--save-steps", 2, *(["--resume"] if begun else []))


def rank(work: Path) -> None:
    _copied(work, "whole/best")
    _rank(work.parent, work / "out")


def calibrate(work: Path) -> None:
    _copied(work, "ranked")
    blink(
        "calibrate",
        work / "out",
        "--on",
        work.parent / "kb",
        work.parent / "dev.jsonl",
        "--json",
        work / "out" / "figures.json",
    )


def _copied(work: Path, source: str) -> None:
    """The model that a command changes, as it is before the first kill."""
    if not (work / "out").exists():
        shutil.rmtree(work / ".old", ignore_errors=True)
        shutil.copytree(work.parent / source, work / ".old")
        (work / ".old").rename(work / "out")


def kglm(name: str, work: Path) -> None:
    run = work / "out"
    if (run / "trace.jsonl").is_file():
        blink("kglm", "resume", run)
    else:
        blink("kglm", "train", work.parent / f"{name}.yaml", "--out", run)


def graph_run(folder: Path) -> None:
    """A run whose vectors are exported."""
    blink("kglm", "train", folder / "graph.yaml", "--out", folder / "graph-run")


def kglm_export(work: Path) -> None:
    blink("kglm", "export", work.parent / "graph-run", "--out", work / "out")


def kglm_embed(work: Path) -> None:
    """Vectors of texts, and their table."""
    (work / "out").mkdir(exist_ok=True)
    texts = ("-e", work.parent / "entity.jsonl", "-m", work.parent / "base", "--device", "cpu", "--batch-size", 4)
    blink("kglm", "embed", "entities", *texts, "-o", work / "out" / "entities.tsv")


def luke(work: Path) -> None:
    from examples.cli import cli

    common = (f"--model-file={work.parent / 'luke'}", f"--output-dir={work / 'out'}", "--num-gpus=0")
    data = f"--data-dir={ROOT / 'examples' / 'entity_typing' / 'tiny'}"
    steps = ("--train-batch-size=4", "--num-train-epochs=3", "--learning-rate=2e-3", "--save-steps=2")
    begun = ["--resume"] if (work / "out" / "trace.jsonl").is_file() else []
    cli.main([*common, "entity-typing", "run", data, *steps, *begun], prog_name="examples", standalone_mode=False)


LINKED = ("--no-rank", "--threshold", -20, "--backend", "torch", "--device", "cpu")


def link(work: Path) -> None:
    (work / "out").mkdir(exist_ok=True)
    model = ("--model", work.parent / "model", "--kb", work.parent / "model-kb", *LINKED)
    blink("link", "--file", work.parent / "texts.txt", "--out", work / "out" / "links.jsonl", *model)


def slurm_link(work: Path) -> None:
    (work / "out").mkdir(exist_ok=True)
    model = ("--model", work.parent / "model", "--kb", work.parent / "model-kb", *LINKED)
    shards = ("--shards", 2, "--submit", "local")
    blink("slurm", "link", work.parent / "few.txt", "--out", work / "out" / "links.jsonl", *shards, *model)


def export(work: Path) -> None:
    blink("export", "--onnx", work.parent / "model", "--out", work / "out")


def download(work: Path) -> None:
    from blink.apps.download import commands

    models = work / "models"
    models.mkdir(exist_ok=True)
    shutil.copyfile(work.parent / "MANIFEST.json", models / "MANIFEST.json")
    (work / "out").exists() or (work / "out").symlink_to("models")
    sys.argv = ["download_models.sh"]
    os.environ["BLINK_RETRY_WAIT_S"] = "0"
    status = commands.main(work)
    if status:
        raise SystemExit(status)


COMMANDS: dict[str, Command] = {
    "kb build": Command(build, (texts,)),
    "kb build over an older one": Command(rebuild, (texts,)),
    "train": Command(train, (texts,)),
    "rank": Command(rank, (texts, folds)),
    "calibrate": Command(calibrate, (texts, folds)),
    "kglm train, graph": Command(partial(kglm, "graph"), (graphs,)),
    "kglm train, lm": Command(partial(kglm, "lm"), (graphs,)),
    "kglm train, joint": Command(partial(kglm, "joint"), (graphs,)),
    "kglm train, glove": Command(partial(kglm, "glove"), (graphs,)),
    "kglm export": Command(kglm_export, (graphs, graph_run)),
    "kglm embed": Command(kglm_embed, (texts,)),
    "examples: entity typing": Command(luke, (tiny_luke,)),
    "link --file --out": Command(link, (texts, model)),
    "slurm link": Command(slurm_link, (texts, model), forks=True),
    "download_models.sh": Command(download, (site,)),
    "export --onnx": Command(export, (model,)),
}


# -- killing ----------------------------------------------------------------------------------------------------------


def start(command: Command, work: Path) -> int:
    """Begin a command in a forked process; its process id."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    status = 99
    try:
        os.setsid()
        log = os.open(work / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for stream in (1, 2):
            os.dup2(log, stream)
        from blink.apps.common import guarded

        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL if number != signal.SIGINT else signal.default_int_handler)
        status = guarded(lambda: command.run(work), "blink")
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        import traceback

        with contextlib.suppress(BaseException):
            os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(status)


def ended(child: int, within: float) -> int | None:
    """The exit status of a process; None if it still runs after some seconds."""
    limit = time.monotonic() + within
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= limit:
            return None
        time.sleep(0.002)


def hit(child: int, number: signal.Signals, whole_group: bool) -> int:
    """Send a signal, and wait for the end; a process that goes on after SIGTERM or SIGHUP is killed after 20 seconds."""
    with contextlib.suppress(ProcessLookupError):
        (os.killpg if whole_group else os.kill)(child, number)
    status = ended(child, 20.0)
    if status is None:
        os.killpg(child, signal.SIGKILL)
        status = ended(child, 20.0)
    if whole_group:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
    return 0 if status is None else status


def contents(out: Path) -> dict[str, str]:
    """A hash of each result; files of JSON without times, costs and the name of the folder."""
    found = {}
    for path in sorted(path for path in out.resolve().rglob("*") if path.is_file()):
        name = str(path.relative_to(out.resolve()))
        if not any(part in VOLATILE for part in path.relative_to(out.resolve()).parts):
            found[name] = hashlib.sha256(_lasting(path, out.parent)).hexdigest()
    return found


def _lasting(path: Path, work: Path) -> bytes:
    content = path.read_bytes()
    if path.suffix != ".json":
        return content
    return json.dumps(_without_times(json.loads(content.replace(os.fsencode(work), b""))), sort_keys=True).encode()


def _without_times(value: object) -> object:
    if isinstance(value, dict):
        lasting = {k: _without_times(v) for k, v in value.items() if not any(time in k for time in TIMES)}
        if len(lasting) < len(value):
            lasting.pop("sha256", None)  # the object's own hash, of its times too
        return lasting
    return [_without_times(v) for v in value] if isinstance(value, list) else value


def names(work: Path) -> set[str]:
    """All files of a series but logs, and checkpoints and steps of a run, of which it keeps the newest."""
    paths = (path.relative_to(work) for path in work.rglob("*"))
    return {str(path) for path in paths if not any(part in ("log", "checkpoints", "progress") for part in path.parts)}


class Series:
    """Kills of one command.

    Args:
        name: of the command.
        folder: with what the command reads.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.command, self.folder, self.row = COMMANDS[name], folder, Row(name)
        undisturbed = folder / f"undisturbed {name}".replace(" ", "-")
        undisturbed.mkdir()
        begin = time.monotonic()
        self._finish(undisturbed)
        self.row.seconds = time.monotonic() - begin
        self.expected, self.names = contents(undisturbed / "out"), names(undisturbed)
        shutil.rmtree(undisturbed)

    def _finish(self, work: Path) -> None:
        status = ended(start(self.command, work), LIMIT_S)
        if status != 0:
            log = (work / "log").read_text(errors="replace")[-1500:]
            raise AssertionError(f"{self.row.name} ends with {status}: {log}")

    def kill(self, times: int, chance: random.Random) -> Row:
        """Kill so many times, one to four times in a run."""
        row, number = self.row, 0
        while row.kills < times:
            work = self.folder / f"{row.name} {number}".replace(" ", "-")
            work.mkdir()
            number += 1
            for _ in range(min(chance.randint(1, 4), times - row.kills)):
                child = start(self.command, work)
                time.sleep(chance.random() * row.seconds)
                signal_number = chance.choice(SIGNALS)
                running = ended(child, 0.0) is None
                if running:
                    hit(child, signal_number, self.command.forks)
                row.kills += 1
                row.during += running
                row.signals[signal_number.name] += running
                if not running:
                    break
            time.sleep(SETTLED_S)
            try:
                self._finish(work)
            except AssertionError as error:
                row.unequal += 1
                row.faults.append(str(error))
                continue
            row.runs += 1
            self._compare(work)
            shutil.rmtree(work)
        return row

    def _compare(self, work: Path) -> None:
        found, left = contents(work / "out"), names(work) - self.names
        differing = [name for name in self.expected if found.get(name) != self.expected[name]]
        if differing:
            self.row.unequal += 1
            self.row.faults.append(f"differ: {', '.join(differing)}")
        if left:
            self.row.left += len(left)
            self.row.faults.append(f"left over: {', '.join(sorted(left))}")


@contextlib.contextmanager
def server(folder: Path) -> Iterator[str]:
    """Serve files of a folder, slowly enough to be interrupted."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def copyfile(self, source: object, target: object) -> None:
            while block := source.read(1 << 18):  # type: ignore[attr-defined]
                target.write(block)  # type: ignore[attr-defined]
                time.sleep(0.01)

        def send_head(self) -> object:
            """With ranges, which a download continues by."""
            path, asked = Path(self.translate_path(self.path)), self.headers.get("Range")
            size, begin = path.stat().st_size, 0
            if asked:
                begin = int(asked.removeprefix("bytes=").removesuffix("-"))
            self.send_response(206 if begin else 200)
            self.send_header("Content-Length", str(size - begin))
            self.send_header("ETag", '"one"')
            if begin:
                self.send_header("Content-Range", f"bytes {begin}-{size - 1}/{size}")
            self.end_headers()
            stream = path.open("rb")
            stream.seek(begin)
            return stream

        def handle(self) -> None:
            with contextlib.suppress(OSError):
                super().handle()

    running = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_address[1]}"
    running.shutdown()


def serve(folder: Path) -> int:
    """Serve the files to download from a process of its own; writes the manifest that names it, and returns its number."""
    child = os.fork()
    if not child:
        with server(folder / "site") as url:
            size = (folder / "site" / "big.bin").stat().st_size
            digest = hashlib.sha256((folder / "site" / "big.bin").read_bytes()).hexdigest()
            entry = {
                "name": "big", "path": "big.bin", "target": "big.bin", "groups": ["default"], "bytes": size,
                "approx_bytes": None, "sha256": digest, "unpack": False, "purpose": "a test",
            }  # fmt: skip
            manifest = folder / "MANIFEST.json.new"
            manifest.write_text(json.dumps({"base_url": url, "groups": {"default": "all"}, "files": [entry]}))
            manifest.rename(folder / "MANIFEST.json")
            signal.pause()
    while not (folder / "MANIFEST.json").exists():
        time.sleep(0.01)
    return child


def table(rows: Sequence[Row]) -> str:
    """Rows as Markdown."""
    lines = [
        "| command | s undisturbed | kills | during work | runs to the end | unequal | left over |",
        f"| --- |{' ---: |' * 6}",
    ]
    for row in rows:
        figures = (f"{row.seconds:.1f}", row.kills, row.during, row.runs, row.unequal, row.left)
        lines.append(f"| `{row.name}` | " + " | ".join(map(str, figures)) + " |")
    sums = [sum(getattr(row, name) for row in rows) for name in ("kills", "during", "runs", "unequal", "left")]
    lines.append("| **sum** | | " + " | ".join(map(str, sums)) + " |")
    return "\n".join(lines)


def run(kills: int, only: str = "", seed: int = 0) -> list[Row]:
    """Kill the commands whose names hold ``only`` so many times in all."""
    chosen = [name for name in COMMANDS if only in name]
    rows = []
    with tempfile.TemporaryDirectory(prefix="blink-kills-") as scratch:
        folder = Path(scratch)
        os.environ |= {"XDG_CACHE_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1", "BLINK_BACKEND": "torch"}
        os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
        sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "kglm")]
        import torch

        torch.set_num_threads(1)
        for need in dict.fromkeys(need for name in chosen for need in COMMANDS[name].needs):
            need(folder)
        serving = serve(folder) if any(site in COMMANDS[name].needs for name in chosen) else None
        try:
            for i, name in enumerate(chosen):
                times = kills * (i + 1) // len(chosen) - kills * i // len(chosen)
                row = Series(name, folder).kill(times, random.Random(seed * 100 + i))
                rows.append(row)
                print(
                    f"{name}: {row.kills} kills, {row.during} during work, {row.unequal} unequal, {row.left} left over",
                    flush=True,
                )
                for fault in row.faults:
                    print(f"    {fault}", flush=True)
        finally:
            if serving is not None:
                os.kill(serving, signal.SIGKILL)
                os.waitpid(serving, 0)
    return rows


def main() -> int:
    """Entry point; the exit status is 1 where a result differs or a file is left over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="in all, spread over the commands")
    parser.add_argument("--only", default="", help="part of the names of commands")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="Markdown file for the table")
    arguments = parser.parse_args()
    rows = run(arguments.kills, arguments.only, arguments.seed)
    text = table(rows)
    signals = sum((row.signals for row in rows), Counter[str]())
    print(f"\n{text}\n\n{dict(signals)}")
    if arguments.out is not None:
        arguments.out.write_text(text + "\n", encoding="utf-8")
    return 1 if any(row.unequal or row.left for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
