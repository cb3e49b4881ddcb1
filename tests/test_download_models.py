"""download_models.sh against a small server on this machine that drops, refuses and changes files on demand."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")

ROOT = Path(__file__).resolve().parents[1]
NOWHERE = "http://127.0.0.1:9"  # nothing listens there: the same as being offline
BIG = random.Random(7).randbytes(300_000)
SMALL_FILE = b"one line\n"


@dataclass
class Site:
    """What the server holds and how it misbehaves; lists are used up one item per request that sends a body."""

    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    validators: bool = True
    head: bool = True
    lengths: bool = True
    drop_after: list[int | None] = field(default_factory=list)  # close the connection after so many bytes of the body
    hold_after: list[int | None] = field(default_factory=list)  # wait for `release` after so many bytes of the body
    statuses: list[int] = field(default_factory=list)  # answer with these first
    before_body: list[Callable[[], None]] = field(default_factory=list)  # run between the question and the answer
    release: threading.Event = field(default_factory=threading.Event)
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)  # method, path, Range
    url: str = ""

    def gets(self, path: str = "/big.bin") -> list[str | None]:
        """Range header of every request for the body of a file."""
        return [span for method, requested, span in self.requests if method == "GET" and requested == path]


class Handler(BaseHTTPRequestHandler):
    """Serves a Site, with Range and If-Range."""

    site: Site

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def refuse(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def answer(self, *, body: bool) -> None:
        site, byte_range = self.site, self.headers.get("Range")
        site.requests.append((self.command, self.path, byte_range))
        if body and site.before_body:
            site.before_body.pop(0)()
        content = site.files.get(self.path)
        if content is None or (body and site.statuses) or (not body and not site.head):
            self.refuse(404 if content is None else site.statuses.pop(0) if body else 405)
            return
        tag = f'"{hashlib.md5(content).hexdigest()}"'
        start = 0
        if byte_range and site.ranges and self.headers.get("If-Range", tag) == tag:
            start = int(byte_range.removeprefix("bytes=").removesuffix("-"))
        if start and start == len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if site.lengths:
            self.send_header("Content-Length", str(len(content) - start))
        if site.validators:
            self.send_header("ETag", tag)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if body:
            self.send(content[start:])

    def send(self, content: bytes) -> None:
        drop = self.site.drop_after.pop(0) if self.site.drop_after else None
        hold = self.site.hold_after.pop(0) if self.site.hold_after else None
        with contextlib.suppress(OSError):
            self.wfile.write(content[: drop if hold is None else hold])
            if hold is not None:
                self.wfile.flush()
                self.site.release.wait(20)
                self.wfile.write(content[hold:])
        self.close_connection = True


@pytest.fixture
def site() -> Iterator[Site]:
    state = Site(files={"/big.bin": BIG, "/small.txt": SMALL_FILE})
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("SiteHandler", (Handler,), {"site": state}))
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield state
    state.release.set()
    server.shutdown()
    server.server_close()


def entry(name: str, **fields: object) -> dict[str, Any]:
    """A manifest entry whose target and path are its name, in the default group."""
    common = {"bytes": None, "approx_bytes": None, "sha256": None, "unpack": False, "purpose": f"{name} for tests"}
    return {"name": name, "path": name, "target": name, "groups": ["default"], **common, **fields}


@dataclass
class Checkout:
    """A copy of the script with a manifest of its own."""

    root: Path
    environment: dict[str, str]

    @property
    def models(self) -> Path:
        return self.root / "models"

    def manifest(self, base_url: str, *entries: dict[str, Any]) -> None:
        content = {"base_url": base_url, "groups": {"default": "all"}, "files": list(entries)}
        (self.models / "MANIFEST.json").write_text(json.dumps(content), encoding="utf-8")

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", str(self.root / "download_models.sh"), *arguments],
            cwd="/",
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # A suite in the background of a shell ignores Ctrl-C, and so would all that it starts.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, **environment)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def fetched(self, *arguments: str, **environment: str) -> str:
        """Run, expect success and silence on stderr, return stdout."""
        result = self.run(*arguments, **environment)
        assert (result.returncode, result.stderr) == (0, ""), result
        return result.stdout

    def refused(self, *arguments: str, code: int = 1, **environment: str) -> str:
        """Run, expect failure with exactly one line on stderr, return it."""
        result = self.run(*arguments, **environment)
        assert result.returncode == code, result
        assert result.stderr.startswith("download_models.sh: "), result
        assert result.stderr.count("\n") == 1, result
        return result.stderr

    def leftovers(self) -> list[str]:
        return sorted(path.name for path in self.models.rglob("*") if "part" in path.name or "pids" in path.name)

    def records(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.models / ".downloads.json").read_text(encoding="utf-8"))
        return content


@pytest.fixture
def checkout(tmp_path: Path, site: Site) -> Checkout:
    root = tmp_path / "a checkout"  # with a space, which careless quoting would split
    (root / "models").mkdir(parents=True)
    shutil.copy(ROOT / "download_models.sh", root)
    # Nothing else of the project may be needed.
    for package in ("blink", "blink/apps", "blink/apps/download", "blink/downloads"):
        (root / package).mkdir()
        for module in (ROOT / package).glob("*.py" if "download" in package else "__init__.py"):
            shutil.copy(module, root / package)
    for module in ("stopping.py", "terminal.py"):
        shutil.copy(ROOT / "blink" / module, root / "blink")
    variables = {
        key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy") and not key.startswith("BLINK_")
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    result = Checkout(root, {**variables, "PATH": path, "BLINK_RETRY_WAIT_S": "0", "TMPDIR": str(tmp_path)})
    result.manifest(site.url, entry("big.bin"), entry("small.txt", groups=["extra"]))
    return result


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "nothing happened in 20 s"
        time.sleep(0.01)


def size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


# ---- the shipped list


@pytest.mark.quick
def test_shipped_manifest_is_complete_and_without_clashes() -> None:
    manifest = json.loads((ROOT / "models" / "MANIFEST.json").read_text(encoding="utf-8"))
    files = manifest["files"]
    for key in ("name", "path", "target"):
        assert len({item[key] for item in files}) == len(files)
    assert manifest["base_url"] == "https://dl.fbaipublicfiles.com"
    assert all(set(item["groups"]) <= set(manifest["groups"]) for item in files)
    assert all(item["unpack"] == item["target"].endswith(".tar.gz") for item in files)
    assert all(item["purpose"] and "\n" not in item["purpose"] for item in files)
    by_target = {item["target"]: item for item in files}
    for name in ("entity.jsonl", "faiss_hnsw_index.pkl", "faiss_flat_index.pkl"):
        assert by_target[name]["path"] == f"elq/{name}"
        assert by_target[f"blink/{name}"]["path"] == f"BLINK/{name}"
    default = {item["target"] for item in files if "default" in item["groups"]}
    assert default == {"entity.jsonl", "all_entities_large.t7", "elq_wiki_large.bin", "elq_large_params.txt"}


def test_shipped_list_prints_every_file(checkout: Checkout) -> None:
    shutil.copy(ROOT / "models" / "MANIFEST.json", checkout.models)
    out = checkout.fetched("--list")
    for item in json.loads((checkout.models / "MANIFEST.json").read_text(encoding="utf-8"))["files"]:
        assert item["name"] in out
        assert item["purpose"] in out
    assert "~24.2 GB" in out
    assert "~24.2 GB" in checkout.fetched("--dry-run", BLINK_MIRROR=NOWHERE)


# ---- looking without touching


@pytest.mark.quick
def test_help_teaches(checkout: Checkout) -> None:
    out = checkout.fetched("--help")
    for word in ("--only", "--group", "--list", "--dry-run", "--verify", "BLINK_MIRROR", "BLINK_MODELS_DIR", "Examples"):
        assert word in out


@pytest.mark.quick
def test_list_tells_what_is_here(checkout: Checkout) -> None:
    checkout.fetched("--only", "small.txt")
    (checkout.models / "big.bin.part").write_bytes(BIG[:2000])
    lines = {line.split()[0]: line for line in checkout.fetched("--list").splitlines() if line.strip()}
    assert "2.0 kB so far" in lines["big.bin"]
    assert " yes " in lines["small.txt"]
    assert "9 B" in lines["small.txt"]


def test_dry_run_offline_shows_unknown_sizes_and_changes_nothing(checkout: Checkout) -> None:
    checkout.manifest(
        NOWHERE, entry("big.bin"), entry("known.bin", bytes=1_500_000), entry("about.bin", approx_bytes=2_000_000)
    )
    before = sorted(checkout.root.rglob("*"))
    out = checkout.fetched("--dry-run")
    assert sorted(checkout.root.rglob("*")) == before
    sizes = {line.split()[0]: line.split()[1] for line in out.splitlines() if line.startswith("  ")}
    assert sizes == {"big.bin": "?", "known.bin": "1.5", "about.bin": "~2.0"}
    assert "total to fetch: 3.5 MB in 3 files, plus 1 of unknown size; free disk: " in out


def test_dry_run_asks_the_server_for_sizes_only(checkout: Checkout, site: Site) -> None:
    out = checkout.fetched("--dry-run", "--group", "all")
    assert "total to fetch: 300.0 kB in 2 files; free disk" in out
    assert {method for method, _, _ in site.requests} == {"HEAD"}


@pytest.mark.quick
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--only", "bigbin"], ["unknown name 'bigbin'", "big.bin, small.txt", "--list"]),
        (["--group", "huge"], ["unknown group 'huge'", "default, extra, all"]),
        (["--only"], ["--only needs a name"]),
        (["--frobnicate"], ["unknown option '--frobnicate'", "--dry-run"]),
        (["--list", "--verify"], ["exclude each other"]),
    ],
)
def test_wrong_calls(checkout: Checkout, arguments: list[str], expected: list[str]) -> None:
    line = checkout.refused(*arguments, code=2)
    assert all(phrase in line for phrase in expected), line


@pytest.mark.quick
@pytest.mark.parametrize("setting", [{"BLINK_MIRROR": "ftp://x"}, {"BLINK_RETRY_WAIT_S": "soon"}])
def test_wrong_settings(checkout: Checkout, setting: dict[str, str]) -> None:
    assert next(iter(setting)) in checkout.refused(code=2, **setting)


@pytest.mark.quick
@pytest.mark.parametrize("content", ["{", '{"files": [{"name": "x"}], "base_url": ""}', None])
def test_broken_manifest(checkout: Checkout, content: str | None) -> None:
    path = checkout.models / "MANIFEST.json"
    path.unlink()
    if content is not None:
        path.write_text(content, encoding="utf-8")
    assert "MANIFEST.json" in checkout.refused("--dry-run")


def test_manifest_target_must_stay_in_the_folder(checkout: Checkout, site: Site) -> None:
    checkout.manifest(site.url, entry("big.bin", target="../big.bin"))
    assert "outside the models folder" in checkout.refused()


# ---- fetching


@pytest.mark.quick
def test_default_group_is_fetched_recorded_and_then_skipped(checkout: Checkout, site: Site) -> None:
    checkout.fetched()
    assert (checkout.models / "big.bin").read_bytes() == BIG
    assert not (checkout.models / "small.txt").exists()
    assert checkout.records()["big.bin"]["sha256"] == hashlib.sha256(BIG).hexdigest()
    assert checkout.leftovers() == []
    site.requests.clear()
    assert "is here" in checkout.fetched()
    assert site.requests == []  # not even a question: works offline


def test_only_is_repeatable_and_takes_targets(checkout: Checkout, site: Site) -> None:
    checkout.manifest(site.url, entry("a", path="big.bin", target="sub/a.bin"), entry("b", path="small.txt"), entry("c"))
    checkout.fetched("--only", "sub/a.bin", "--only=b")
    assert (checkout.models / "sub" / "a.bin").read_bytes() == BIG
    assert (checkout.models / "b").read_bytes() == SMALL_FILE


def test_mirror_and_models_folder(checkout: Checkout, site: Site, tmp_path: Path) -> None:
    site.files["/deep/copy/big.bin"] = BIG
    checkout.manifest(NOWHERE, entry("big.bin"))
    folder = tmp_path / "new" / "big disk"
    checkout.fetched(BLINK_MIRROR=f"{site.url}/deep/copy/", BLINK_MODELS_DIR=str(folder))
    assert (folder / "big.bin").read_bytes() == BIG
    assert not (checkout.models / "big.bin").exists()


@pytest.mark.parametrize("drops", [[1], [0, 0, 0, 100_000], [70_000] * 4, [299_999], [10, 20, 30, 40, 50, 60, 70]])
def test_resumes_after_drops(checkout: Checkout, site: Site, drops: list[int | None]) -> None:
    site.drop_after = list(drops)
    checkout.fetched()
    assert (checkout.models / "big.bin").read_bytes() == BIG
    resumed, total = [], 0
    for drop in drops:
        total += drop or 0
        resumed.append(f"bytes={total}-" if total else None)
    assert site.gets() == [None, *resumed]


def test_server_that_ignores_ranges(checkout: Checkout, site: Site) -> None:
    site.ranges = False
    site.drop_after = [50_000, None, 60_000]
    assert "cannot resume" in checkout.fetched()
    assert (checkout.models / "big.bin").read_bytes() == BIG


def test_server_without_validators_or_head(checkout: Checkout, site: Site) -> None:
    site.validators, site.head, site.drop_after = False, False, [50_000]
    checkout.fetched()
    assert (checkout.models / "big.bin").read_bytes() == BIG
    assert site.gets() == [None, None]  # nothing says the file is the same: a resume could mix two versions


@pytest.mark.parametrize("length", [300_000, 200_000])
def test_change_between_runs_starts_over(checkout: Checkout, site: Site, length: int) -> None:
    site.drop_after = [100_000]
    site.statuses = []
    site.before_body = [lambda: None, lambda: site.statuses.extend([503] * 5)]
    assert "HTTP 503" in checkout.refused()
    assert size(checkout.models / "big.bin.part") == 100_000
    site.files["/big.bin"] = changed = random.Random(8).randbytes(length)
    site.statuses.clear()
    assert "starting over" in checkout.fetched()
    assert (checkout.models / "big.bin").read_bytes() == changed


def test_change_between_question_and_answer_does_not_mix_versions(checkout: Checkout, site: Site) -> None:
    changed = random.Random(9).randbytes(len(BIG))
    site.drop_after = [100_000]
    site.before_body = [lambda: None, lambda: site.files.update({"/big.bin": changed})]
    checkout.fetched()
    assert (checkout.models / "big.bin").read_bytes() == changed


def test_server_errors_are_retried(checkout: Checkout, site: Site) -> None:
    site.statuses = [500, 503, 429, 502]
    checkout.fetched()
    assert (checkout.models / "big.bin").read_bytes() == BIG


def test_retries_end(checkout: Checkout, site: Site) -> None:
    site.statuses = [500] * 50
    line = checkout.refused()
    assert "gave up after 5 tries" in line
    assert "HTTP 500" in line
    assert len(site.gets()) == 5


def test_no_server(checkout: Checkout) -> None:
    line = checkout.refused(BLINK_MIRROR=NOWHERE)
    assert "gave up after 5 tries" in line
    assert "BLINK_MIRROR" in line


@pytest.mark.parametrize("arguments", [(), ("--dry-run",)])
def test_missing_file_is_named_at_once(checkout: Checkout, site: Site, arguments: tuple[str, ...]) -> None:
    checkout.manifest(site.url, entry("big.bin"), entry("gone.bin"))
    line = checkout.refused(*arguments)
    assert "gone.bin" in line
    assert "404" in line
    assert site.gets() == []  # said before the other file was fetched
    assert [path for _, path, _ in site.requests].count("/gone.bin") == 1


# ---- interruption


@pytest.mark.quick
def test_resumes_after_kill(checkout: Checkout, site: Site) -> None:
    site.hold_after = [120_000]
    process = checkout.start()
    wait_until(lambda: size(checkout.models / "big.bin.part") == 120_000)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    checkout.fetched()
    assert (checkout.models / "big.bin").read_bytes() == BIG
    assert site.gets() == [None, "bytes=120000-"]
    assert checkout.leftovers() == []
    process.communicate(timeout=10)


def test_interrupt_keeps_the_part(checkout: Checkout, site: Site) -> None:
    site.hold_after = [120_000]
    process = checkout.start()
    wait_until(lambda: size(checkout.models / "big.bin.part") == 120_000)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert err == "download_models.sh: stopped; run the same command again to resume\n"
    checkout.fetched()
    assert (checkout.models / "big.bin").read_bytes() == BIG
    assert site.gets() == [None, "bytes=120000-"]


def test_two_runs_do_not_share_a_part(checkout: Checkout, site: Site) -> None:
    site.hold_after = [120_000]
    process = checkout.start()
    wait_until(lambda: size(checkout.models / "big.bin.part") == 120_000)
    assert f"another run (process {process.pid})" in checkout.refused()
    site.release.set()
    assert process.communicate(timeout=20)[1] == ""
    assert (checkout.models / "big.bin").read_bytes() == BIG


def test_complete_part_needs_no_transfer(checkout: Checkout, site: Site) -> None:
    # As a kill between the last byte and the rename leaves it.
    (checkout.models / "big.bin.part").write_bytes(BIG)
    (checkout.models / "big.bin.meta.part").write_text(f'"{hashlib.md5(BIG).hexdigest()}"\n\n{len(BIG)}', encoding="utf-8")
    checkout.fetched()
    assert (checkout.models / "big.bin").read_bytes() == BIG
    assert site.gets() == []
    assert checkout.leftovers() == []


def test_complete_part_is_known_without_head(checkout: Checkout, site: Site) -> None:
    site.head = False
    (checkout.models / "big.bin.part").write_bytes(BIG)
    (checkout.models / "big.bin.meta.part").write_text(f'"{hashlib.md5(BIG).hexdigest()}"\n\n{len(BIG)}', encoding="utf-8")
    checkout.fetched()
    assert (checkout.models / "big.bin").read_bytes() == BIG
    assert site.gets() == [f"bytes={len(BIG)}-"]  # answered with status 416, and no body


def test_nothing_past_the_listed_size(checkout: Checkout, site: Site) -> None:
    checkout.manifest(site.url, entry("big.bin", bytes=1000))
    site.head, site.lengths = False, False
    assert "the list says 1000" in checkout.refused()
    assert not (checkout.models / "big.bin").exists()
    assert checkout.leftovers() == []


# ---- disk


def test_too_little_disk_is_said_before_the_start(checkout: Checkout, site: Site) -> None:
    checkout.manifest(NOWHERE, entry("big.bin", bytes=10**17))
    line = checkout.refused()
    assert "not enough disk" in line
    assert "100000000.0 GB needed" in line
    assert "too small" in checkout.fetched("--dry-run")


def test_full_disk_is_one_line_and_resumable(checkout: Checkout, site: Site) -> None:
    command = ["bash", "-c", 'ulimit -f 100; exec bash "$0"', str(checkout.root / "download_models.sh")]
    result = subprocess.run(command, env=checkout.environment, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "cannot write" in result.stderr
    assert "free disk" in result.stderr
    assert len(site.gets()) == 1
    checkout.fetched()
    assert (checkout.models / "big.bin").read_bytes() == BIG
    assert site.gets()[1] == "bytes=102400-"


def test_folder_that_cannot_be_made(checkout: Checkout, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    assert "cannot create the folder" in checkout.refused(BLINK_MODELS_DIR=str(tmp_path / "file" / "models"))


# ---- what is here is what was published


def corrupt(path: Path, *, keep_time: bool = False) -> None:
    """Flip one byte in the middle."""
    times = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    if keep_time:
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.quick
@pytest.mark.parametrize("corruption", [corrupt, lambda path: path.write_bytes(b"short")])
def test_damage_is_reported_and_fetched_anew(checkout: Checkout, corruption: Callable[[Path], None]) -> None:
    checkout.fetched()
    corruption(checkout.models / "big.bin")
    assert "damaged" in checkout.fetched()
    assert (checkout.models / "big.bin").read_bytes() == BIG


def test_touched_file_is_read_once_and_kept(checkout: Checkout, site: Site) -> None:
    checkout.fetched()
    os.utime(checkout.models / "big.bin", (1, 1))
    assert "checking its sha256" in checkout.fetched()
    assert "checking its sha256" not in checkout.fetched()
    assert len(site.gets()) == 1


def test_verify_finds_damage_that_size_and_time_hide(checkout: Checkout) -> None:
    checkout.fetched("--group", "all")
    assert checkout.fetched("--verify").split() == ["ok", "big.bin", "ok", "small.txt"]
    corrupt(checkout.models / "big.bin", keep_time=True)
    checkout.fetched()  # the quick look cannot see it
    assert "--only big.bin" in checkout.refused("--verify")
    assert "damaged" in checkout.fetched("--only", "big.bin")
    assert (checkout.models / "big.bin").read_bytes() == BIG
    checkout.fetched("--verify")


def test_verify_of_absent_files(checkout: Checkout) -> None:
    assert "absent" in checkout.fetched("--verify")
    assert "damaged or absent: small.txt" in checkout.refused("--verify", "--only", "small.txt")


def test_sha256_of_the_list_is_enforced(checkout: Checkout, site: Site) -> None:
    checkout.manifest(site.url, entry("big.bin", sha256="0" * 64))
    line = checkout.refused()
    assert hashlib.sha256(BIG).hexdigest() in line
    assert not (checkout.models / "big.bin").exists()
    assert checkout.leftovers() == []
    checkout.manifest(site.url, entry("big.bin", sha256=hashlib.sha256(BIG).hexdigest(), bytes=len(BIG)))
    checkout.fetched()


def test_size_of_the_list_is_enforced(checkout: Checkout, site: Site) -> None:
    checkout.manifest(site.url, entry("big.bin", bytes=5))
    assert "has 300000 bytes, the list says 5" in checkout.refused()
    assert site.gets() == []


def test_file_from_elsewhere_is_adopted_or_left_alone(checkout: Checkout, site: Site) -> None:
    path = checkout.models / "big.bin"
    path.write_bytes(b"my own catalogue")
    assert "move it away" in checkout.refused()
    assert path.read_bytes() == b"my own catalogue"
    path.write_bytes(BIG)
    assert "was here already" in checkout.fetched()
    assert site.gets() == []
    assert "was here already" not in checkout.fetched()


def test_broken_records(checkout: Checkout) -> None:
    (checkout.models / ".downloads.json").write_text("{", encoding="utf-8")
    assert "move it away" in checkout.refused()


# ---- archives


def archive(*members: tuple[str, bytes | None, str]) -> bytes:
    """A .tar.gz of (name, content, link); None for a folder or a link."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content, link in members:
            info = tarfile.TarInfo(name)
            if link:
                info.type, info.linkname = tarfile.SYMTYPE, link
            elif content is None:
                info.type = tarfile.DIRTYPE
            info.size = len(content or b"")
            tar.addfile(info, io.BytesIO(content or b""))
    return buffer.getvalue()


@pytest.fixture
def packed(checkout: Checkout, site: Site) -> Callable[[bytes], Checkout]:
    def offer(content: bytes) -> Checkout:
        site.files["/set.tar.gz"] = content
        checkout.manifest(site.url, entry("set", path="set.tar.gz", target="data/set.tar.gz", unpack=True))
        return checkout

    return offer


@pytest.mark.parametrize("top", ["", "set/", "./set/", "other/"])
def test_unpacks_beside_the_archive(packed: Callable[[bytes], Checkout], top: str) -> None:
    checkout = packed(archive((f"{top}sub", None, ""), (f"{top}sub/a.txt", b"a", ""), (f"{top}b.txt", None, "sub/a.txt")))
    checkout.fetched()
    folder = checkout.models / "data" / "set" / ("other" if top == "other/" else "")
    assert (folder / "sub" / "a.txt").read_bytes() == b"a"
    assert (folder / "b.txt").read_bytes() == b"a"
    assert not (folder / "b.txt").is_symlink()
    (folder / "sub" / "a.txt").write_bytes(b"edited")
    assert "unpacking" not in checkout.fetched()
    assert (folder / "sub" / "a.txt").read_bytes() == b"edited"
    assert checkout.leftovers() == []


@pytest.mark.parametrize(
    "member",
    [("../evil.txt", b"x", ""), ("a/../../evil.txt", b"x", ""), ("/tmp/evil.txt", b"x", ""), ("link", None, "/etc/passwd")],
)
def test_archive_that_reaches_out_is_refused(
    packed: Callable[[bytes], Checkout], member: tuple[str, bytes | None, str]
) -> None:
    checkout = packed(archive(("good.txt", b"good", ""), member))
    assert "cannot unpack" in checkout.refused()
    assert not list(checkout.root.rglob("evil.txt"))
    assert not (checkout.models / "data" / "set").exists()
    assert checkout.leftovers() == []


@pytest.mark.parametrize("content", [b"no archive", archive(("a.txt", bytes(5000), ""))[:-20]], ids=["none", "cut"])
def test_broken_archive(packed: Callable[[bytes], Checkout], content: bytes) -> None:
    checkout = packed(content)
    assert "cannot unpack" in checkout.refused()
    assert not (checkout.models / "data" / "set").exists()


def test_folder_in_the_way_of_an_archive(packed: Callable[[bytes], Checkout]) -> None:
    checkout = packed(archive(("a.txt", b"a", "")))
    own_file = checkout.models / "data" / "set" / "mine.txt"
    own_file.parent.mkdir(parents=True)
    own_file.write_bytes(b"mine")
    assert "move it away" in checkout.refused()
    assert own_file.read_bytes() == b"mine"


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs shellcheck")
def test_script_is_clean() -> None:
    subprocess.run(["shellcheck", "--severity=warning", str(ROOT / "download_models.sh")], check=True)
