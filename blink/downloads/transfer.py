"""Transfers by HTTP that resume: what the server has, and one file into its part."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast
from urllib.parse import quote, urlsplit

from blink.downloads.folder import (
    ADDRESS_CHARACTERS,
    CHUNK,
    RECORDS,
    DownloadError,
    ModelsFolder,
    PublishedFile,
    free_bytes,
    human_size,
    on_disk,
    say,
    sha256_of,
    size_of,
    write_whole,
)
from blink.terminal import TerminalCodes, escaped_line

MAX_TRIES = 5  # in a row without a new byte
PROGRESS_S = 30  # between progress lines when stdout is no terminal
PROBE_TIMEOUT_S, STALL_TIMEOUT_S = 20, 60
MIN_BYTES_PER_S = 100
"""A slower transfer is one that stalls."""
MAX_UNLISTED_BYTES = 64 << 30
"""Most bytes of a file whose size neither the list nor the server says."""
LONGEST_HEADER = 1000
_NUMBER = re.compile("[0-9]{1,18}")
_RANGE = re.compile("bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")
OTHER_MIRROR = "use another BLINK_MIRROR or update models/MANIFEST.json"


class Version(NamedTuple):
    """What tells a published file from its later versions: validators of HTTP (RFC 9110, 8.8) and size."""

    etag: str = ""
    modified: str = ""
    length: str = ""

    @classmethod
    def of(cls, response: http.client.HTTPResponse, offset: int = 0) -> Version:
        """From the headers of a response whose body begins at an offset."""
        etag, modified, length = (_plain(response.headers.get(key, "")) for key in ("ETag", "Last-Modified", "Content-Length"))
        return cls(etag, modified, str(int(length) + offset) if _NUMBER.fullmatch(length) else "")

    @property
    def size(self) -> int | None:
        """Bytes of the file, where the server says."""
        return int(self.length) if self.length else None

    @property
    def if_range(self) -> str:
        """Value of ``If-Range``, which needs a strong validator; empty without one."""
        return self.modified if self.etag.startswith("W/") else self.etag or self.modified


def _plain(value: str) -> str:
    """A value of a header that can be sent back; empty for others."""
    return value if value.isascii() and value.isprintable() and len(value) <= LONGEST_HEADER else ""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects by HTTP alone, and never from an encrypted address to another."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        schemes = [urlsplit(url).scheme.lower() for url in (req.full_url, newurl)]
        if schemes[1] not in ("http", "https") or schemes == ["https", "http"]:
            advice = "only redirects by http and https are followed, none away from https; check BLINK_MIRROR and proxy"
            raise DownloadError(f"{req.full_url} redirects to {newurl}; {advice}")
        new = super().redirect_request(req, fp, code, msg, headers, quote(newurl, safe=ADDRESS_CHARACTERS))
        if new is not None:
            new.method = req.get_method()
        return new


def request(url: str, method: str, headers: Mapping[str, str], timeout_s: float) -> http.client.HTTPResponse:
    """Ask a server; redirects are followed. Raises `OSError` or `http.client.HTTPException`."""
    message = urllib.request.Request(url, headers={"User-Agent": "download_models.sh", **headers}, method=method)
    response: http.client.HTTPResponse = urllib.request.build_opener(_Redirects).open(message, timeout=timeout_s)
    return response


def reason_of(error: Exception) -> str:
    """Why a request failed."""
    return " ".join(str(getattr(error, "reason", "") or error).split()) or type(error).__name__


def refuse_if_final(name: str, url: str, status: int) -> None:
    """Raise for answers that another try cannot change."""
    if 300 <= status < 400:
        advice = "check BLINK_MIRROR, proxy and permissions, then run again"
        raise DownloadError(
            f"{name}: {url} redirects in a circle, or to what is no address of the web (HTTP {status}); {advice}"
        )
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
    except (OSError, ValueError, http.client.HTTPException) as error:  # values: an address in a header is none
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
        accept_changed: take a file whose sha256 is not that of its first download.
    """

    def __init__(
        self, folder: ModelsFolder, file: PublishedFile, label: str, latest: Version, *, accept_changed: bool = False
    ) -> None:
        self._folder, self._file, self._label, self._latest = folder, file, label, latest
        self._accept_changed, self._too_slow = accept_changed, False
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
            if size_of(self._partial) > best and not self._too_slow:
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
        except (OSError, ValueError, http.client.HTTPException) as error:
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
            if response.status == 206 and not self._continues(response, version, offset):
                self._can_resume = False
                return "the server sends another part than the one that is missing"
            return self._receive(response, offset if response.status == 206 else 0)

    def _continues(self, response: http.client.HTTPResponse, version: Version, offset: int) -> bool:
        """Whether a partial answer is what was asked for: from the offset to the end of the same file."""
        match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if match is None or not offset:
            return False
        first, last, total = match[1], match[2], match[3]
        return int(first) == offset and int(last) + 1 == int(total) and version.length in ("", total)

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
        progress, limit, self._too_slow = Progress(self._label, offset, length), self._most(length), False
        with _opened(self._partial, "r+b" if offset else "wb") as sink, contextlib.closing(progress):
            size = sink.seek(offset)
            checked_s, checked = time.monotonic(), size
            while True:
                try:
                    chunk = memoryview(response.read1(min(CHUNK, limit - size + 1)))
                except (OSError, ValueError, http.client.HTTPException) as error:
                    return reason_of(error)
                if not chunk:
                    break
                if size + len(chunk) > limit:
                    self._discard()
                    said = f"the list says {limit}" if self._file.bytes is not None else f"at most {limit} are taken"
                    raise DownloadError(f"{self._file.name}: {self._url} sends more bytes, {said}; {OTHER_MIRROR}")
                if time.monotonic() - checked_s >= STALL_TIMEOUT_S:
                    if size - checked < STALL_TIMEOUT_S * MIN_BYTES_PER_S:
                        self._too_slow = True
                        return f"fewer than {MIN_BYTES_PER_S} bytes a second"
                    checked_s, checked = time.monotonic(), size
                while chunk:
                    written = sink.write(chunk) or 0
                    chunk, size = chunk[written:], size + written
                progress.show(size)
        return ""

    def _most(self, length: int | None) -> int:
        """Bytes that a file may have: those of the list, of the server's word, or the largest without either."""
        sizes = (self._file.bytes, length, None if not self._file.approx_bytes else 2 * self._file.approx_bytes)
        return next((size for size in sizes if size is not None), MAX_UNLISTED_BYTES)

    def _discard(self) -> None:
        self._partial.unlink(missing_ok=True)
        self._meta.unlink(missing_ok=True)

    def _accept(self) -> None:
        """Check a complete part against the list, record it, give it its name."""
        file, size, sha256, problem = self._file, size_of(self._partial), sha256_of(self._partial), ""
        if file.bytes not in (None, size):
            problem = f"got {size} bytes from {self._url}, the list says {file.bytes}; {OTHER_MIRROR}"
        elif file.sha256 not in (None, sha256):
            problem = f"what came from {self._url} has sha256 {sha256}, the list says {file.sha256}; {OTHER_MIRROR}"
        if problem:
            self._discard()
            raise DownloadError(f"{file.name}: {problem}")
        recorded = self._folder.recorded(file)
        if file.sha256 is None and recorded not in (None, sha256) and not self._accept_changed:
            advice = f"if the publisher has changed it, add --accept-changed, else delete {self._partial} and run again"
            raise DownloadError(f"{file.name}: has sha256 {sha256}, its first download had {recorded}; {advice}")
        try:
            on_disk(self._partial)
            self._folder.record(file, sha256, self._partial)
            self._partial.replace(self._target)
        except OSError as error:
            raise DownloadError(f"cannot write {self._target} ({error.strerror}); move it away, then run again") from error
        self._meta.unlink(missing_ok=True)
        note = "as recorded" if sha256 in (file.sha256, recorded) else f"recorded in {RECORDS}"
        say(f"{self._label}  sha256 {sha256}, {note}")


def _opened(path: Path, mode: str) -> BinaryIO:
    """Open a part to write: no link, no pipe that nothing reads."""
    flags = os.O_NOFOLLOW | os.O_NONBLOCK
    return cast(BinaryIO, open(path, mode, 0, opener=lambda name, basic: os.open(name, basic | flags, 0o666)))


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
        if not self._terminal:
            say(text)
            return
        sys.stdout.write(TerminalCodes(f"\r{escaped_line(text)}\033[K"))
        sys.stdout.flush()

    def close(self) -> None:
        """Clear the line of a terminal."""
        if self._terminal:
            sys.stdout.write(TerminalCodes("\r\033[K"))
            sys.stdout.flush()
