"""A real server and a real headless Chromium for the tests of the web page."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, Page, Playwright

TOKEN = "0123456789abcdef0123"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SEVERE = ("serious", "critical")


@dataclass
class Server:
    """A running `blink serve`."""

    address: str
    corrections: Path

    def post(self, path: str, body: Any, *, edits: bool = False) -> Any:
        """The JSON answer to a request."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {TOKEN}"} if edits else {})
        request = urllib.request.Request(f"{self.address}/{path}", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=120) as response:
            return json.load(response)

    def links(self, text: str, threshold: float | None = None) -> list[tuple[int, int, str]]:
        """Start, end and title of the links of a text."""
        body = {"text": text} | ({} if threshold is None else {"threshold": threshold})
        (result,) = self.post("link", body)["results"]
        return [(link["start"], link["end"], link["title"]) for link in result["links"]]

    def saved(self) -> list[dict[str, Any]]:
        """The lines of the file of corrections."""
        return [json.loads(line) for line in self.corrections.read_text(encoding="utf-8").splitlines()]


@contextmanager
def running_server(folder: Path, kb: Path) -> Iterator[Server]:
    """Start `blink serve` on a copy of a knowledge base, on any free port."""
    shutil.copytree(kb, folder / "kb", symlinks=True)
    token, corrections, log = folder / "token.txt", folder / "corrections.jsonl", folder / "log.txt"
    token.write_text(TOKEN, encoding="utf-8")
    command = [sys.executable, "-m", "blink.apps.cli", "serve", "--port", "0", "--kb", str(folder / "kb")]
    command += ["--prior", str(folder / "kb" / "prior.safetensors")]  # a copy of the starter is not known as the starter
    command += ["--token-file", str(token), "--corrections", str(corrections)]
    environment = {name: value for name, value in os.environ.items() if name != "BLINK_BACKEND"} | {"OMP_NUM_THREADS": "1"}
    with log.open("wb") as f:
        process = subprocess.Popen(command, stdout=f, stderr=f, env=environment)
    try:
        yield Server(_address(process, log), corrections)
    finally:
        process.terminate()
        process.wait(30)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """The address that a server says, once it answers."""
    for _ in range(900):
        said = re.search(r"http://[\w.:]+\d", log.read_text(encoding="utf-8"))
        assert process.poll() is None, log.read_text(encoding="utf-8")
        with contextlib.suppress(OSError):
            if said is not None and urllib.request.urlopen(f"{said[0]}/readyz", timeout=5).status == 200:
                return said[0]
        time.sleep(0.1)
    raise AssertionError(f"the server was not ready in time: {log.read_text(encoding='utf-8')}")


def launched(playwright: Playwright) -> Browser:
    """Chromium, which resolves no name of any host."""
    arguments = ["--no-sandbox", "--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
    return playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)


@dataclass
class Visit:
    """The page in a browser context of its own, with all that it asked for and complained about.

    Attributes:
        page: the page.
        server: that serves it.
        requests: method and path of all requests.
        complaints: messages of the console, errors of scripts, violations of the policy, dialogs, requests to other hosts.
        expected: complaints that a test provokes; each is a part of a line.
    """

    page: Page
    server: Server
    requests: list[tuple[str, str]] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)

    def open(self, text: str | None = None) -> Page:
        """Open the page with a text, or with what it begins with, and wait for its links."""
        if text is not None:
            first = f"sessionStorage.getItem('blink-text') ?? sessionStorage.setItem('blink-text', {json.dumps(text)})"
            self.page.add_init_script(first)
        self.page.goto(self.server.address)
        self.linked()
        return self.page

    def linked(self) -> None:
        """Wait until the text is linked."""
        self.page.wait_for_selector("#reader:not([aria-busy]):not(.stale) > *", timeout=60_000)

    def type(self, text: str) -> None:
        """Replace the text, and wait until it is linked."""
        with self.page.expect_response(lambda response: response.url.endswith("/page/link")):
            self.page.fill("#text", text)
        self.linked()

    def links(self) -> list[tuple[int, int, str]]:
        """Start, end and title of the names that are shown as links, once what was done last is drawn."""
        self.wait_until_drawn()
        rows = self.page.eval_on_selector_all(
            "#reader .name:not(.weak):not(.nothing)", "nodes => nodes.map(n => [n.dataset.key, n.dataset.title])"
        )
        return [(*map(int, key.split("-")), title) for key, title in rows]

    def wait_until_drawn(self) -> None:
        """Wait until the page has drawn what was done last."""
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def set_threshold(self, threshold: float) -> None:
        """Move the slider."""
        move = """(slider, value) => { slider.step = "any"; slider.value = value; slider.dispatchEvent(new Event("input")); }"""
        self.page.eval_on_selector("#threshold", move, threshold)
        self.wait_until_drawn()

    def severe(self) -> list[str]:
        """What axe-core finds that is serious or critical."""
        from axe_playwright_python.sync_playwright import Axe

        violations = Axe().run(self.page).response["violations"]
        return [f"{v['id']}: {v['nodes'][0]['html'][:200]}" for v in violations if v["impact"] in SEVERE]

    def unexpected(self) -> list[str]:
        """Complaints that the test did not provoke."""
        return [c for c in self.complaints if not any(e in c for e in self.expected)]


def visit(context: BrowserContext, server: Server) -> Visit:
    """A page that records what happens on it."""
    page = context.new_page()
    visit = Visit(page, server)
    host = urlsplit(server.address).netloc

    def note(request: Any) -> None:
        address = urlsplit(request.url)
        visit.requests.append((request.method, address.path))
        if address.scheme not in ("blob", "data") and address.netloc != host:
            visit.complaints.append(f"request to {request.url}")

    page.on("request", note)
    page.on("console", lambda message: visit.complaints.append(f"console {message.type}: {message.text}"))
    page.on("pageerror", lambda error: visit.complaints.append(f"script: {error}"))
    page.on("dialog", lambda dialog: (visit.complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    report = "(e) => console.error('policy violated', e.violatedDirective, e.blockedURI)"
    page.add_init_script(f"addEventListener('securitypolicyviolation', {report})")
    return visit
