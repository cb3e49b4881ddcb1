"""Installs requirements with pip and says what it does: the large downloads with their sizes, and a line every half minute.

    python scripts/install.py "what BLINK needs" --requirement requirements.txt

Called by the Makefile with the Python to install into, before anything is installed: it uses the standard library alone. All
lines go to standard error.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import threading
import time
from collections import deque
from pathlib import Path

INTERVAL_S = 30.0
"""Seconds between two lines."""
LARGE_MB = 20.0
"""Downloads from which a file is named."""
_DOWNLOAD = re.compile(r"\s*(?:Downloading|Using cached) (\S+?)(?:\.metadata)? \(([\d.]+) (kB|MB|GB)\)")
_MB = {"kB": 1e-3, "MB": 1.0, "GB": 1e3}


class Reporter:
    """What pip has done so far.

    Args:
        interval_s: seconds between two lines.
    """

    def __init__(self, interval_s: float = INTERVAL_S) -> None:
        self._began_s, self._ended = time.monotonic(), threading.Event()
        self._step, self.lines = "finding what is needed", deque[str](maxlen=20)
        self._interval_s = interval_s
        self._thread = threading.Thread(target=self._report, daemon=True)
        self._thread.start()

    def read(self, line: str) -> None:
        """Take note of a line of pip, and name a large download."""
        self.lines.append(line.rstrip())
        download = _DOWNLOAD.match(line)
        if download is not None:
            file, size_mb = download[1].rpartition("/")[2], float(download[2]) * _MB[download[3]]
            self._step = f"downloading {file.partition('-')[0]}"
            if size_mb >= LARGE_MB:
                say(f"  {file.partition('-')[0]}: {size_mb:,.0f} MB")
        elif line.startswith("Installing collected packages"):
            self._step = f"unpacking {line.count(',') + 1} packages"

    def close(self) -> str:
        """End the lines; how long it took and how much is installed."""
        self._ended.set()
        self._thread.join()
        return self._so_far()

    def _report(self) -> None:
        while not self._ended.wait(self._interval_s):
            say(f"  {self._step}: {self._so_far()} so far")

    def _so_far(self) -> str:
        return f"{time.monotonic() - self._began_s:.0f} s, {installed_mb():,.0f} MB on disk"


def installed_mb() -> float:
    """Disk of all that this Python has installed, in MB."""
    total = 0
    for folder, _, files in os.walk(sysconfig.get_path("purelib")):
        for name in files:
            try:
                total += (Path(folder) / name).lstat().st_size
            except OSError:  # pip removes files meanwhile
                continue
    return total / 1e6


def say(text: str) -> None:
    """A line on standard error."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def main(arguments: list[str]) -> int:
    """Install; the first argument says what, the others are pip's. The exit status is pip's."""
    what, *requirements = arguments
    say(f"installing {what} into {sys.prefix} (once)")
    command = [sys.executable, "-m", "pip", "install", "--progress-bar", "off", *requirements]
    reporter = Reporter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace") as pip:
        assert pip.stdout is not None
        for line in pip.stdout:
            reporter.read(line)
    done = reporter.close()
    if pip.returncode:
        say("\n".join([*reporter.lines, f"pip failed after {done}; fix what it says above, then run make again"]))
    else:
        say(f"installed: {done}")
    return pip.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
