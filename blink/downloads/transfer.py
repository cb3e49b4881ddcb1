"""Transfers by HTTP that resume: what the server has, and one file into its part."""

from __future__ import annotations

import contextlib
import http.client
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import NamedTuple

from blink.downloads.folder import (
    CHUNK,
    DownloadError,
    ModelsFolder,
    PublishedFile,
    free_bytes,
    human_size,
    say,
    sha256_of,
    size_of,
    write_whole,
)

MAX_TRIES = 5  # in a row without a new byte
PROGRESS_S = 30  # between progress lines when stdout is no terminal
PROBE_TIMEOUT_S, STALL_TIMEOUT_S = 20, 60
OTHER_MIRROR = "use another BLINK_MIRROR or update models/MANIFEST.json"


class Version(NamedTuple):
    """What tells a published file from its later versions: validators of HTTP (RFC 9110, 8.8) and size."""

    etag: str = ""
    modified: str = ""
    length: str = ""

    @classmethod
    def of(cls, response: http.client.HTTPResponse, offset: int = 0) -> Version:
        """From the headers of a response whose body begins at an offset."""
        etag, modified, length = (response.headers.get(key, "") for key in ("ETag", "Last-Modified", "Content-Length"))
        return cls(etag, modified, str(int(length) + offset) if length.isdecimal() else "")

    @property
    def size(self) -> int | None:
        """Bytes of the file, where the server says."""
        return int(self.length) if self.length else None

    @property
    def if_range(self) -> str:
        """Value of ``If-Range``, which needs a strong validator; empty without one."""
        return self.modified if self.etag.startswith("W/") else self.etag or self.modified


def request(url: str, method: str, headers: Mapping[str, str], timeout_s: float) -> http.client.HTTPResponse:
    """Ask a server; redirects are followed. Raises `OSError` or `http.client.HTTPException`."""
    message = urllib.request.Request(url, headers={"User-Agent": "download_models.sh", **headers}, method=method)
    response: http.client.HTTPResponse = urllib.request.urlopen(message, timeout=timeout_s)
    return response


def reason_of(error: Exception) -> str:
    """Why a request failed."""
    return str(getattr(error, "reason", "") or error) or type(error).__name__


def refuse_if_final(name: str, url: str, status: int) -> None:
    """Raise for answers that another try cannot change."""
    if status in (404, 410):
        advice = "check BLINK_MIRROR if it is set, or select other files with --only"
        raise DownloadError(f"{name}: {url} does not exist (HTTP {status}); {advice}")
    if 400 <= status < 500 and status not in (405, 408, 416, 425, 429):  # no HEAD, or later may work
        advice = "check BLINK_MIRROR, proxy and permissions, then run again"
        raise DownloadError(f"{name}: the server refuses {url} (HTTP {status}); {advice}")


def check_size(file: PublishedFile, url: str, size: int | None) -> None:
    """Raise if the server's size of a file is not the listed one."""
    if size is not None and file.bytes not in (None, size):
        raise DownloadError(f"{file.name}: {url} has {size} bytes, the list says {file.bytes}; {OTHER_MIRROR}")


def probe(folder: ModelsFolder, file: PublishedFile) -> tuple[Version, str]:
    """Ask for the headers of a file; returns the version, and why there was no answer."""
    url, version = folder.url(file), Version()
    try:
        with request(url, "HEAD", {}, PROBE_TIMEOUT_S) as response:
            version = Version.of(response)
    except urllib.error.HTTPError as error:
        refuse_if_final(file.name, url, error.code)
    except (OSError, http.client.HTTPException) as error:
        return version, reason_of(error)
    check_size(file, url, version.size)
    return version, ""


class Transfer:
    """Downloads one file into its part, in as many requests as it takes.

    Args:
        folder: destination of the file.
        file: to download.
        label: in front of its messages.
        latest: what the server said of the file just now.
    """

    def __init__(self, folder: ModelsFolder, file: PublishedFile, label: str, latest: Version) -> None:
        self._folder, self._file, self._label, self._latest = folder, file, label, latest
        self._url, self._target = folder.url(file), folder.path / file.target
        self._partial, self._meta = (self._target.with_name(self._target.name + end) for end in (".part", ".meta.part"))
        self._can_resume = True

    def run(self, wait_s: int) -> None:
        """Download, check, record and name the file; wait between tries, each time twice as long."""
        try:
            self._partial.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            folder = self._partial.parent
            raise DownloadError(f"cannot create {folder} ({error.strerror}); fix the permissions, then run again") from error
        started, best, tries = time.monotonic(), size_of(self._partial), 0
        while problem := self._attempt():
            if size_of(self._partial) > best:
                best, tries = size_of(self._partial), 0
            if tries == MAX_TRIES - 1:
                advice = "check the network or set BLINK_MIRROR, then run again: it resumes"
                raise DownloadError(f"{self._file.name}: gave up after {MAX_TRIES} tries: {problem}; {advice}")
            say(f"{self._label}  {problem}; next try in {wait_s << tries} s")
            time.sleep(wait_s << tries)
            tries += 1
        self._accept()
        say(f"{self._label}  done: {human_size(size_of(self._target))} in {time.monotonic() - started:.0f} s")

    def _attempt(self) -> str:
        """One request; returns why it did not complete the part, or nothing."""
        lines = self._meta.read_text(encoding="utf-8").split("\n") if self._meta.is_file() else []
        version, offset = Version(*lines[:3]), size_of(self._partial)
        if offset and version == self._latest and offset == version.size:
            return ""  # stopped between the last byte and the rename
        headers = {}
        if offset and self._can_resume and version.if_range:
            headers = {"Range": f"bytes={offset}-", "If-Range": version.if_range}
        try:
            response = request(self._url, "GET", headers, STALL_TIMEOUT_S)
        except urllib.error.HTTPError as error:
            if error.code == 416:  # unchanged, and nothing follows
                self._can_resume = False
                return "" if error.headers.get("Content-Range") == f"bytes */{offset}" else "the part is too long"
            refuse_if_final(self._file.name, self._url, error.code)
            return f"{self._url} answers with HTTP {error.code}"
        except (OSError, http.client.HTTPException) as error:
            return f"no answer from {self._url}: {reason_of(error)}"
        with response:
            if headers and response.status != 206:
                self._can_resume = Version.of(response).if_range != version.if_range
                problem = (
                    "the published file has changed since the download began"
                    if self._can_resume
                    else "the server cannot resume"
                )
                say(f"{self._file.name}: {problem}; starting over")
            return self._receive(response, offset if response.status == 206 else 0)

    def _receive(self, response: http.client.HTTPResponse, offset: int) -> str:
        version = Version.of(response, offset)
        check_size(self._file, self._url, version.size)
        write_whole(self._meta, "\n".join(version))
        try:
            problem = self._append(response, offset, version.size)
        except OSError as error:
            room, fix = (
                human_size(free_bytes(self._partial.parent)),
                "make room or set BLINK_MODELS_DIR, then run again: it resumes",
            )
            raise DownloadError(f"cannot write {self._partial} ({error.strerror}), free disk: {room}; {fix}") from error
        size = size_of(self._partial)
        if problem or size < (version.size or 0):
            return f"the transfer broke off after {human_size(size)}: {problem or 'the server closed the connection'}"
        return ""

    def _append(self, response: http.client.HTTPResponse, offset: int, length: int | None) -> str:
        """Write a body behind an offset of the part, up to the listed size; returns what went wrong with reading."""
        progress = Progress(self._label, offset, length)
        with self._partial.open("r+b" if offset else "wb", buffering=0) as sink, contextlib.closing(progress):
            size = sink.seek(offset)
            while self._file.bytes is None or size <= self._file.bytes:
                try:
                    chunk = memoryview(response.read1(CHUNK))
                except (OSError, http.client.HTTPException) as error:
                    return reason_of(error)
                if not chunk:
                    break
                while chunk:
                    written = sink.write(chunk) or 0
                    chunk, size = chunk[written:], size + written
                progress.show(size)
        return ""

    def _accept(self) -> None:
        """Check a complete part against the list, record it, give it its name."""
        file, size, sha256, problem = self._file, size_of(self._partial), sha256_of(self._partial), ""
        if file.bytes not in (None, size):
            problem = f"got {size} bytes from {self._url}, the list says {file.bytes}; {OTHER_MIRROR}"
        elif file.sha256 not in (None, sha256):
            problem = f"what came from {self._url} has sha256 {sha256}, the list says {file.sha256}; {OTHER_MIRROR}"
        if problem:
            self._partial.unlink()
        else:
            self._folder.record(file, sha256, self._partial)
            self._partial.replace(self._target)
        self._meta.unlink(missing_ok=True)
        if problem:
            raise DownloadError(f"{file.name}: {problem}")


class Progress:
    """Size, rate and time left of a transfer: one line that changes on a terminal, else a line now and then."""

    def __init__(self, label: str, offset: int, length: int | None) -> None:
        self._label, self._offset, self._length = label, offset, length
        self._terminal = sys.stdout.isatty()
        self._started = self._last_shown = time.monotonic()

    def show(self, size: int) -> None:
        """Show it, if it is time."""
        now = time.monotonic()
        if now - self._last_shown < (1 if self._terminal else PROGRESS_S):
            return
        self._last_shown, rate = now, (size - self._offset) / (now - self._started)
        text = f"{self._label}  {human_size(size)}"
        if self._length and rate > 0:
            left_min = int((self._length - size) / rate / 60) + 1
            text += f" of {human_size(self._length)} ({size * 100 // self._length}%)  {human_size(rate)}/s  {left_min} min left"
        else:
            text += f"  {human_size(rate)}/s"
        print(f"\r{text}\033[K" if self._terminal else text, end="" if self._terminal else "\n", flush=True)

    def close(self) -> None:
        """Clear the line of a terminal."""
        if self._terminal:
            print("\r\033[K", end="", flush=True)
