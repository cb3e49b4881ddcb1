"""The command line of ``download_models.sh``: plan, fetch, verify, list.

Tables, notes and progress go to stdout; stderr gets one line, and only when the run fails.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from blink.downloads.archives import unpack
from blink.downloads.folder import (
    DownloadError,
    FileState,
    ModelsFolder,
    PublishedFile,
    free_bytes,
    human_size,
    locked,
    read_manifest,
    say,
    select_files,
    size_of,
)
from blink.downloads.transfer import Transfer, Version, probe
from blink.stopping import StoppedBySignal, flush_or_discard, flushed_output, signals_raise, without_reader
from blink.terminal import escaped_line, protect_streams

HELP = """\
Usage: ./download_models.sh [--only NAME]... [--group GROUP]... [--accept-changed] [--list | --dry-run | --verify]

Downloads published models and data into models/. Without options: the group "default", which is all that
linking needs (a model, its settings, the catalogue and the entity vectors; more than 24 GB).

Which files
  --only NAME     this file (repeat for more); names are in the first column of --list
  --group GROUP   these files: default, elq, blink, data, or all (repeat for more)
What to do with them
  --list          show every file: size, groups, whether it is here, what it is for
  --dry-run       show what would be downloaded, how much, and the free disk; change nothing; works offline
  --accept-changed  take files whose sha256 is not that of their first download, and record the new one
  --verify        compare the files that are here with their recorded sha256, reading every byte
  -h, --help      this text

Examples
  ./download_models.sh --dry-run                                    first look: what and how much
  ./download_models.sh                                              then download it
  ./download_models.sh --only elq_webqsp_large.bin --only EL4QA_data
  BLINK_MODELS_DIR=/big/disk/models ./download_models.sh            put the files elsewhere

Interrupting is safe. A file grows as NAME.part and gets its name when it is complete. After Ctrl-C, a lost
connection or a crash run the same command again: it resumes, and starts over only if the published file has
changed meanwhile or the server cannot resume. What is already here and unchanged is skipped.

A file's sha256 is shown and recorded at its first download, in models/.downloads.json, and what is downloaded
later must have it too; a damaged file is reported and downloaded again. A .tar.gz is also unpacked into a folder with its name.

Environment
  BLINK_MIRROR         address to use instead of https://dl.fbaipublicfiles.com (http or https)
  BLINK_MODELS_DIR     folder for the files, instead of models/
  BLINK_RETRY_WAIT_S   seconds before the second try, doubled for each further one (default 2; 5 tries)

Exit status: 0 all is well, 1 failure (one line on stderr says what and how to continue), 2 wrong call, 130 Ctrl-C."""


class PlannedFile(NamedTuple):
    """What is to be done with a file: fetch, keep or adopt; its exact size, where it is known."""

    file: PublishedFile
    action: str
    size: int | None
    version: Version


def make_plan(folder: ModelsFolder, files: Sequence[PublishedFile], *, read: bool) -> list[PlannedFile]:
    """What there is to do for files, as folder and server say; touched files are read only if ``read`` says so."""
    offline, plan = "", []
    for file in files:
        state, version = folder.inspect(file) if read else folder.state(file), Version()
        if state.kind in ("good", "touched"):
            plan.append(PlannedFile(file, "keep", size_of(folder.path / file.target), version))
            continue
        if state.kind == "damaged":
            say(f"{file.name}: damaged ({state.problem}); fetching it again")
        if not offline:  # each further request could take seconds to fail
            version, offline = probe(folder, file)
        size = file.bytes if version.size is None else version.size
        plan.append(PlannedFile(file, "adopt" if state.kind == "unrecorded" else "fetch", size, version))
    if offline:
        say(f"No answer from {folder.base_url} ({offline}): sizes are estimates or unknown.")
    return plan


def show_plan(folder: ModelsFolder, plan: Sequence[PlannedFile]) -> tuple[int, int]:
    """Print the table; returns bytes to download, as far as known, and free bytes."""
    needed, unknown, count, free = 0, 0, 0, free_bytes(folder.path)
    for file, action, exact, _ in plan:
        size = exact if exact is not None else file.approx_bytes
        text = "?" if size is None else f"{'~' * (exact is None)}{human_size(size)}"
        note = {"keep": "is here", "adopt": "is here, not recorded yet", "fetch": "to fetch"}[action]
        if action == "fetch":
            received = size_of(folder.path / f"{file.target}.part")
            note += f", {human_size(received)} so far" if received else ""
            needed, unknown, count = needed + max((size or 0) - received, 0), unknown + (size is None), count + 1
        say(f"  {file.name:<28} {text:>10}  {note}")
    more = f", plus {unknown} of unknown size" if unknown else ""
    say(f"total to fetch: {human_size(needed)} in {count_files(count)}{more}; free disk: {human_size(free)}")
    return needed, free


def count_files(count: int) -> str:
    """``1 file`` or ``3 files``."""
    return f"{count} file{'s' * (count != 1)}"


def fetch(folder: ModelsFolder, files: Sequence[PublishedFile], wait_s: int, *, accept_changed: bool = False) -> None:
    """Download missing files, and unpack archives."""
    plan = make_plan(folder, files, read=True)
    needed, free = show_plan(folder, plan)
    if needed > free:
        room, fix = (
            f"{human_size(needed)} needed, {human_size(free)} free",
            "make room, select less with --only, or set BLINK_MODELS_DIR",
        )
        raise DownloadError(f"not enough disk for {folder.path}: {room}; {fix}")
    for number, (file, action, size, version) in enumerate(plan, 1):
        if action == "fetch":
            label = f"[{number}/{len(files)}] {file.name}"
            Transfer(folder, file, label, version, accept_changed=accept_changed).run(wait_s)
        elif action == "adopt":
            folder.adopt(file, size)
        if file.unpack:
            unpack(folder.path / file.target, folder.inspect(file).sha256)
    say(f"All here: {count_files(len(files))} in {folder.path}")


def verify(folder: ModelsFolder, files: Sequence[PublishedFile], *, all_required: bool) -> None:
    """Read every file that is here, and say which are damaged or absent."""
    failures = []
    for file in files:
        state = folder.state(file)
        if state.kind in ("good", "touched"):
            state = folder.compare(file, state.sha256)
        elif state.kind == "unrecorded":
            folder.adopt(file, file.bytes)
            state = FileState("good")
        say(f"{'ok' if state.kind == 'good' else state.kind:<8} {file.name}{': ' * bool(state.problem)}{state.problem}")
        if state.kind == "damaged" or (state.kind == "absent" and all_required):
            failures.append(file.name)
    if failures:
        again = "".join(f" --only {name}" for name in failures)
        raise DownloadError(f"damaged or absent: {' '.join(failures)}; fetch again with: ./download_models.sh{again}")


def show_list(groups: Mapping[str, str], files: Sequence[PublishedFile], models: Path) -> None:
    """Print the table of ``--list``."""
    lines = [("name", "size", "groups", "target", "here", "purpose")]
    for file in files:
        path, received = models / file.target, size_of(models / f"{file.target}.part")
        exact = size_of(path) if path.is_file() else file.bytes
        size = exact if exact is not None else file.approx_bytes
        text = "?" if size is None else f"{'~' * (exact is None)}{human_size(size)}"
        presence = "yes" if path.is_file() else f"{human_size(received)} so far" if received else "no"
        target = f"{file.target} + folder" if file.unpack else file.target
        lines.append((file.name, text, ",".join(file.groups), target, presence, file.purpose))
    widths = [max(len(line[column]) for line in lines) for column in range(5)]
    for *cells, purpose in lines:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)), purpose]))
    print("\nGroups (--group):", *(f"  {group:<8} {meaning}" for group, meaning in groups.items()), sep="\n")
    print("\nSizes: ~ = estimate, ? = known once the server is asked (--dry-run asks).")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Options of the command line, with messages of one line."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for option in ("--only", "--group"):
        parser.add_argument(option, action="append", nargs="?", const="", default=[])
    for option in ("--list", "--dry-run", "--verify"):
        parser.add_argument(option, dest="modes", action="append_const", const=option, default=[])
    for option in ("-h --help", "--accept-changed"):
        parser.add_argument(*option.split(), action="store_true")
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        allowed = "--only NAME, --group GROUP, --accept-changed, --list, --dry-run, --verify, --help"
        raise DownloadError(f"unknown option '{unknown[0]}'; allowed are: {allowed}", 2)
    for option in ("only", "group"):
        if "" in getattr(options, option):
            raise DownloadError(f"--{option} needs a name after it; names and groups: --list", 2)
    if len(options.modes) > 1:
        raise DownloadError("--list, --dry-run and --verify exclude each other; give one of them", 2)
    return options


def run(root: Path, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Do what the command line says, for a checkout in ``root``."""
    options = parse(arguments)
    if options.help:
        print(HELP)
        return
    mode = options.modes[0] if options.modes else "--fetch"
    base_url, groups, published = read_manifest(root / "models" / "MANIFEST.json")
    models = Path(environment.get("BLINK_MODELS_DIR") or root / "models")
    is_selection = bool(options.only or options.group)
    default = "all" if mode in ("--list", "--verify") else "default"
    files = select_files(published, options.only, options.group if is_selection else [default])
    if mode == "--list":
        show_list(groups, files, models)
        return
    mirror, wait_s = environment.get("BLINK_MIRROR", ""), environment.get("BLINK_RETRY_WAIT_S") or "2"
    if mirror and not re.match("https?://.", mirror):
        allowed = "an address that begins with http:// or https:// is allowed"
        raise DownloadError(f"BLINK_MIRROR is '{mirror}'; {allowed}; correct or unset it", 2)
    if not re.fullmatch("[0-9]+", wait_s):
        raise DownloadError(f"BLINK_RETRY_WAIT_S is '{wait_s}'; whole seconds are allowed; correct or unset it", 2)
    folder = ModelsFolder(models, (mirror or base_url).rstrip("/"))
    if mode == "--dry-run":
        needed, free = show_plan(folder, make_plan(folder, files, read=False))
        if needed > free:
            say(f"The disk is too small by {human_size(needed - free)}.")
        return
    with locked(models):
        if mode == "--verify":
            verify(folder, files, all_required=is_selection)
        else:
            fetch(folder, files, int(wait_s), accept_changed=options.accept_changed)


def main(root: Path) -> int:
    """Run as a program over a checkout; returns the exit status."""
    protect_streams()
    try:
        with signals_raise(program="download_models.sh"), flushed_output():
            run(root, sys.argv[1:], os.environ)
    except DownloadError as error:
        print(escaped_line(f"download_models.sh: {error}"), file=sys.stderr)
        return error.status
    except StoppedBySignal as stop:
        flush_or_discard()
        print("download_models.sh: stopped; run the same command again to resume", file=sys.stderr)
        return 128 + stop.signal
    except BrokenPipeError:
        return without_reader()
    return 0
