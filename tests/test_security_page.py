"""``docs/security.md`` says the limits that the code has, and names commands and files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from blink.downloads import archives, transfer
from blink.limits import LIMITS, RATIO_FROM
from blink.serving.settings import ServerSettings

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
MIB = 1 << 20


def limits() -> list[str]:
    return [f"| `{name}` | {of.default:,} | {of.unit} | {of.of} |" for name, of in LIMITS.items()]


def server() -> list[str]:
    fields = ServerSettings.model_fields
    limited = [name for name in fields if name.startswith(("max_", "queue_")) or name.endswith("_seconds")]
    return [f"| `--{name.replace('_', '-')}` | {int(fields[name].default):,} |" for name in limited]


def downloads() -> list[str]:
    return [
        f"| bytes, where neither list nor server says a size | {transfer.MAX_UNLISTED_BYTES:,} |",
        f"| seconds without a byte | {transfer.STALL_TIMEOUT_S} |",
        f"| tries in a row without a new byte | {transfer.MAX_TRIES} |",
        f"| members of an archive | {archives.MAX_MEMBERS:,} |",
        f"| links that lead to each other in an archive | {archives.MAX_LINKS} |",
        f"| size unpacked, from {archives.RATIO_FROM // MIB:,} MiB on, as a multiple of the archive's | {archives.MAX_RATIO} |",
    ]


@pytest.mark.parametrize("rows", [limits(), server(), downloads()], ids=["limits", "server", "downloads"])
def test_tables_are_those_of_the_code(rows: list[str]) -> None:
    assert "\n" + "\n".join(rows) + "\n\n" in PAGE, "the table should be:\n" + "\n".join(rows)


def test_what_the_page_names_is_there() -> None:
    assert f"behind the first {RATIO_FROM // MIB} MiB" in PAGE
    for module in re.findall(r"python -m (tests[\w.]+)", PAGE):
        path = ROOT / Path(*module.split("."))
        assert (path / "__main__.py").is_file() or path.with_suffix(".py").is_file(), module
    files = re.findall(r"(?:tests|benchmarks)/\w+\.py", PAGE)
    assert len(files) >= 5
    for file in files:
        assert (ROOT / file).is_file(), file
    for name in re.findall(r"`(blink(?:\.\w+)+)`", PAGE):
        module, _, attribute = name.rpartition(".")
        assert hasattr(__import__(module, fromlist=[attribute]), attribute), name
