"""A pipe, a device, a socket, a folder or a broken link where a file belongs: one line and no wait, whatever reads it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from blink import input_files
from blink.apps.cli import cli
from blink.apps.common import guarded
from blink.data.text_lines import read_lines
from blink.errors import BlinkError, DataError, MissingFileError
from blink.files import atomic_open, read_json, read_json_lines, sample_hash, sha256
from blink.input_files import decode, file_fault, open_file, read_bytes, read_text, stream_fault
from blink.runs.settings import read_settings_file
from tests import toys
from tests.artefacts import ARTEFACTS, Artefact, Instance
from tests.special_files import SPECIAL, in_time, put

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pipes and sockets of POSIX systems")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_files, "WRITER_WAIT_S", 0.05)


# -- the opener ----------------------------------------------------------------------------------------------------------

FAULTS = {
    "pipe": "is a pipe, not a file",
    "device": "is a device, not a file",
    "socket": "is a socket, not a file",
    "loop": "is a link to itself",
    "dangling": "is a link to nothing-here, which does not exist",
    "folder": "is a folder, not a file",
}


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("read", [open_file, read_bytes, read_text, read_json, sha256, sample_hash])
def test_what_is_no_file_is_named(tmp_path: Path, read: Any, kind: str) -> None:
    put(tmp_path / "in", kind)
    with in_time(5), pytest.raises(MissingFileError, match=FAULTS[kind]):
        read(tmp_path / "in")
    assert str(file_fault(tmp_path / "in")).startswith(FAULTS[kind])


def test_a_file_where_a_folder_belongs_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(MissingFileError, match=r"does not exist, since .*/file is a file, not a folder"):
        open_file(tmp_path / "file" / "in")
    assert file_fault(tmp_path / "x\0y") == "is no path"
    assert file_fault(tmp_path / "missing") == "does not exist"
    assert file_fault(tmp_path / "file") is None


# -- streams that are meant ----------------------------------------------------------------------------------------------


def test_a_named_pipe_is_read_once_by_readers_of_streams(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=("a\nb\n",))
    writer.start()
    with in_time(10):
        assert list(read_lines(str(tmp_path / "pipe"))) == ["a", "b"]
    writer.join()


def test_a_pipe_without_a_name_and_a_slow_writer(tmp_path: Path) -> None:
    read, write = os.pipe()

    def slowly() -> None:
        threading.Event().wait(0.3)  # longer than a named pipe is waited for
        os.write(write, b"late\n")
        os.close(write)

    writer = threading.Thread(target=slowly)
    writer.start()
    with in_time(10):
        assert list(read_lines(f"/dev/fd/{read}")) == ["late"]
    writer.join()
    os.close(read)


def test_a_named_pipe_with_a_slow_writer_is_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    write = os.open(tmp_path / "pipe", os.O_RDWR)

    def slowly() -> None:
        threading.Event().wait(0.3)
        os.write(write, b"late\n")
        os.close(write)

    writer = threading.Thread(target=slowly)
    writer.start()
    with in_time(10):
        assert list(read_lines(str(tmp_path / "pipe"))) == ["late"]
    writer.join()


def test_a_named_pipe_that_nobody_writes_to_is_no_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with in_time(5), pytest.raises(MissingFileError, match=r"pipe that nothing writes to .*start its writer first"):
        list(read_lines(str(tmp_path / "pipe")))
    with in_time(5), pytest.raises(OSError, match=r"/pipe"), atomic_open(tmp_path / "pipe"):
        pass


def test_streams_are_files_pipes_terminals_and_the_null_device(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    leader, follower = os.openpty()
    for path in (tmp_path / "file", tmp_path / "pipe", os.devnull, os.ttyname(follower)):
        assert stream_fault(path) is None
    os.close(leader)
    os.close(follower)
    assert stream_fault("/dev/zero") == "is a device, not a file"
    with in_time(5), pytest.raises(MissingFileError, match="is a device"):
        list(read_lines("/dev/zero"))


# -- every artefact ------------------------------------------------------------------------------------------------------

QUICK = ("ledger", "corrections", "offsets of a catalogue", "bulk run", "checkpoints", "saved predictions", "graph prior")
EMPTY = {("ledger", "dangling")}
"""A file that does not exist so far, wherever a link says that it will be."""


REFUSED = "an error of one line"


def of_use(artefact: Artefact, root: Path) -> str:
    """The result of using an artefact, or that it was refused in one line."""
    try:
        return repr(artefact.use(root))
    except BlinkError as error:
        return REFUSED if "\n" not in str(error) else str(error)
    except OSError as error:  # which commands show as one line, with its path
        return REFUSED if error.filename else str(error)


@pytest.mark.parametrize(
    "artefact",
    [a if a.name in QUICK else pytest.param(a, marks=pytest.mark.slow) for a in ARTEFACTS],
    ids=lambda a: a.name,
)
def test_every_file_of_every_artefact(artefact: Artefact, tmp_path: Path) -> None:
    instance = Instance(artefact, tmp_path)
    for file in instance.files:
        for kind in SPECIAL:
            root = instance.fresh()
            put(root / file, kind)
            with in_time(60):
                outcome = of_use(artefact, root)
            assert outcome in (instance.result, REFUSED) or (artefact.name, kind) in EMPTY, (file, kind, outcome)


# -- every command -------------------------------------------------------------------------------------------------------

_LINKER = ("--model", "MODEL", "--kb", "KB", "--backend", "torch")
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("link", *_LINKER, "--file", "@"),
    ("link", *_LINKER, "--file", "@", "--out", "OUT.jsonl"),
    ("link", *_LINKER, "--allow", "@", "text"),
    ("link", *_LINKER, "--deny", "@", "text"),
    ("link", *_LINKER, "--prior", "@", "text"),
    ("link", "--model", "@", "--kb", "KB", "text"),
    ("link", "--model", "MODEL", "--kb", "@", "text"),
    ("kb", "build", "@", "--out", "OUT", "--model", "MODEL"),
    ("kb", "new", "OUT", "--model", "@"),
    ("kb", "check", "@"),
    ("kb", "check", "KB", "--model", "@"),
    ("kb", "check", "KB", "--model", "MODEL", "--file", "@"),
    ("kb", "add", "KB", "@", "--model", "MODEL"),
    ("kb", "search", "@", "Paris"),
    ("kb", "show", "@", "Q1"),
    ("kb", "list", "@"),
    ("kb", "history", "@"),
    ("kb", "undo", "@"),
    ("kb", "snapshot", "@", "name"),
    ("kb", "compact", "@"),
    ("kb", "index", "@", "--index", "flat"),
    ("kb", "from-wikidata", "@", "--out", "OUT"),
    ("kb", "from-wikipedia", "@", "--out", "OUT"),
    ("kb", "anchors", "@", "--kb", "KB", "--out", "OUT"),
    ("eval", "@", *_LINKER),
    ("eval", "--preds", "@"),
    ("compare", "@", "@"),
    ("compare", "TEXTS", "TEXTS", "--gold", "@"),
    ("convert", "@", "--to", "doccano", "--out", "OUT.jsonl"),
    ("convert", "@", "--from", "doccano", "--out", "OUT.jsonl"),
    ("convert", "@", "--from", "label-studio", "--out", "OUT.jsonl"),
    ("label", "@", *_LINKER, "--out", "OUT.jsonl"),
    ("resolve", "run", "KB", "@", "--model", "MODEL"),
    ("resolve", "run", "KB", "TEXTS", "--model", "MODEL", "--scorer", "@"),
    ("resolve", "merges", "KB", "--model", "MODEL", "--scorer", "@"),
    ("resolve", "apply", "KB", "@", "--model", "MODEL"),
    ("resolve", "fit", "@", "--model", "MODEL"),
    ("bench", "@", *_LINKER[:4]),
    ("export", "@"),
    ("shrink", "@", "--rank", "2", "--out", "OUT"),
    ("rank", "@", "--kb", "KB", "--train", "TEXTS", "--out", "OUT"),
    ("rank", "MODEL", "--kb", "KB", "--train", "@"),
    ("calibrate", "MODEL", "--on", "KB", "@"),
    ("train", "--train", "@", "--dev", "@", "--kb", "KB", "--model", "MODEL", "--out", "OUT"),
    ("train", "--train", "TEXTS", "--dev", "@", "--kb", "KB", "--model", "MODEL", "--out", "OUT"),
    ("kglm", "train", "@", "--out", "OUT"),
    ("kglm", "eval", "@"),
    ("kglm", "resume", "@"),
    ("kglm", "export", "@", "--out", "OUT"),
    ("kglm", "predict", "@", "--head", "a"),
    ("kglm", "prior", "--graph", "@", "--out", "OUT.prior"),
    ("kglm", "prior", "--graph", "TRIPLES", "--vectors", "@", "--out", "OUT.prior"),
    ("kglm", "tune-prior", "@", "--model", "MODEL", "--on", "KB", "TEXTS"),
    ("kglm", "reduce", "-e", "@", "-o", "OUT", "-d", "2", "-m", "pca"),
    ("kglm", "plot", "@"),
    ("slurm", "link", "@", *_LINKER[:4], "--out", "OUT.jsonl", "--local"),
    ("slurm", "link", "TEXTS", "--settings", "@", "--out", "OUT.jsonl"),
    ("slurm", "encode", "@", "--out", "OUT", "--model", "MODEL", "--local"),
    ("serve", *_LINKER[:4], "--token-file", "@"),
    ("serve", "--model", "@", "--kb", "KB"),
)
"""Commands with ``@`` where what is no file goes, and names for a folder of a model, and so on."""


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files and folders that are whole, by the names that commands have for them."""
    folder = tmp_path_factory.mktemp("places")
    (folder / "texts.jsonl").write_text('{"id": "1", "text": "Paris", "mentions": [[0, 5]], "label_id": [0]}\n')
    (folder / "triples.tsv").write_text("a\tb\tc\n")
    model = toys.model()
    model.save_pretrained(folder / "model")
    toys.knowledge_base(folder / "kb", model, toys.rows(5))
    return {
        "MODEL": folder / "model",
        "KB": folder / "kb",
        "TEXTS": folder / "texts.jsonl",
        "TRIPLES": folder / "triples.tsv",
    }


def status_of(arguments: list[str]) -> int:
    """The exit status of a command."""
    try:
        return guarded(lambda: cli.main(arguments, prog_name="blink", standalone_mode=False), "blink")
    except SystemExit as ending:  # of a check, whose report is its output
        return int(str(ending.code))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_says_one_line(
    command: tuple[str, ...], tmp_path: Path, places: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    for kind in (*SPECIAL, "inside a file"):
        path = tmp_path / kind / "in"
        path.parent.mkdir()
        if kind == "inside a file":
            path.write_text("x")
            path /= "in"
        else:
            put(path, kind)
        if kind == "folder":
            (path / "x").touch()
        out = tmp_path / kind / "out"
        arguments = [str(path) if a == "@" else str(places.get(a, a)).replace("OUT", str(out)) for a in command]
        with in_time(60):
            status = status_of(arguments)
        shown, said = capfd.readouterr()
        assert status in (1, 2), (kind, said)
        lines = [line for line in said.splitlines() if line.startswith("blink: ") and "listening on" not in line]
        assert len(lines) == (0 if command[1] == "check" and shown else 1), (kind, said)
        assert "Traceback" not in said


BOMB = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (c, c, b",".join([b"*%c" % (c - 1)] * 9)) for c in range(98, 107)
)
"""Aliases that repeat each other nine times, ten levels deep."""


# -- texts and settings --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"a: 1\nb: \xff\n", r"line 2: not UTF-8 \(byte 4\)"),
        (b"a: 1\n\0\n", r"line 2: a NUL"),
        ("a: 1".encode("utf-16"), r"line 1: not UTF-8"),
        (b"a: \x1b[31m", r"not YAML"),
        (b"a: [1", r"not YAML"),
        (b"- " * 60 + b"1", r"more than 50 levels"),
        (b"[" * 100_000, r"more than 50 levels"),
        (b"a: &a [*a]", r"an alias holds itself"),
        (BOMB, r"has [\d,]+ values, allowed are 100,000 .*--limits yaml_values="),
        (b"a: " + b"x" * (5 << 20), r"a file of settings in YAML has more than 4,194,304 bytes"),
        (b"a: !!python/object/apply:os.system [ls]", r"not YAML"),
        (b"a: 1e999999999\nb: 0x" + b"f" * 5000 + b"\n? [1]\n: 2", r"YAML|settings"),
    ],
)  # fmt: skip
def test_settings_that_are_none_are_one_line(tmp_path: Path, content: bytes, fault: str) -> None:
    (tmp_path / "run.yaml").write_bytes(content)
    with in_time(20), pytest.raises(DataError, match=fault) as caught:
        read_settings_file(tmp_path / "run.yaml")
    assert "\n" not in str(caught.value)


def test_settings_with_a_few_aliases_are_read(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("a: &a {x: 1}\nb: *a\nc: [*a, *a]\n")
    assert read_settings_file(tmp_path / "run.yaml")["c"] == [{"x": 1}, {"x": 1}]
    (tmp_path / "run.yaml").write_text("")
    assert read_settings_file(tmp_path / "run.yaml") == {}


def test_bytes_that_are_no_text_are_named_by_their_line() -> None:
    assert decode("\ufeffa\nb".encode(), "f") == "a\nb"
    with pytest.raises(DataError, match=r"^f, line 2: not UTF-8 \(byte 2\); save the file as UTF-8$"):
        decode(b"a\nb\xff", "f")
    with pytest.raises(DataError, match=r"^f, line 3: a NUL"):
        decode(b"a\nb\n\0", "f")


def test_json_lines_of_a_pipe_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with in_time(5), pytest.raises(MissingFileError, match="read more than once"):
        list(read_json_lines(tmp_path / "pipe"))


def test_plots_where_the_home_cannot_be_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    program = "from blink.drawing import figure; figure().savefig('/dev/null', format='png')"
    bare = {k: v for k, v in os.environ.items() if k not in ("MPLCONFIGDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")}
    readonly = {**bare, "HOME": "/proc/self", "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=readonly, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []
