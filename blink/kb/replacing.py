"""Puts files of a knowledge base in the place of older ones: whoever opens it, and whatever fails, has the old ones or the new.

The new files are gathered in a subfolder; one rename of the manifest, which names it, makes them the knowledge base. Then they
get their usual names beside the manifest as second names, and another rename makes the manifest name these. No reader has to
complete anything, as one of a model has (`blink.replacing`): a knowledge base is opened where it cannot be written, and while
it is replaced.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from blink.files import NO_SECOND_NAMES, second_name, sync_folder
from blink.kb.catalogue_sidecar import SIDECAR_SUFFIX
from blink.kb.live.carrying import PREFIX
from blink.kb.live.journal import JOURNAL_FILE
from blink.kb.live.state import HISTORY_FILE
from blink.kb.manifest import CATALOGUE_FILE, Manifest, write_manifest

_FOLDERS = (f"{PREFIX}0", f"{PREFIX}00")
"""Of new files while they replace those beside the manifest: the one that the manifest does not name."""


def replace_files(root: Path, old: Manifest, new: Manifest, files: Mapping[str, Path]) -> Manifest:
    """Replace the files of a knowledge base. The caller holds the lock.

    Args:
        root: its folder.
        old: its manifest.
        new: that of the new files.
        files: where all of them are, by name; they stay there too.

    Returns:
        the manifest that was written.

    Raises:
        OSError: the disk is full or broken: the old files are still those of the knowledge base, or the new ones already.
    """
    folder = root / next(name for name in _FOLDERS if name != old.folder)
    shutil.rmtree(folder, ignore_errors=True)  # of a call that was killed
    new = replace(new, folder=folder.name)
    try:
        folder.mkdir()
        for name, source in files.items():
            second_name(source, folder / name)
        sync_folder(folder)
        sync_folder(root)
        new = write_manifest(root, new)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    sync_folder(root)
    return _beside_manifest(root, old, new, files)


def _beside_manifest(root: Path, old: Manifest, new: Manifest, files: Mapping[str, Path]) -> Manifest:
    """Give the files of a subfolder names beside the manifest; where a file has one name alone they stay in it."""
    folder = root / new.folder
    for name in files:
        spare = root / f".{name}.part"
        try:
            spare.unlink(missing_ok=True)
            os.link(folder / name, spare)
            spare.replace(root / name)
        except OSError as error:
            if error.errno in NO_SECOND_NAMES:
                return new
            raise
        finally:  # a name of the file that has it already is not renamed
            with contextlib.suppress(OSError):
                spare.unlink(missing_ok=True)
    sync_folder(root)
    new = replace(new, folder="")
    new = write_manifest(root, new)
    sync_folder(root)
    for name in {*old.samples, CATALOGUE_FILE + SIDECAR_SUFFIX, HISTORY_FILE, JOURNAL_FILE} - set(files):
        with contextlib.suppress(OSError):
            (root / name).unlink(missing_ok=True)
    for unused in filter(None, (old.folder, folder.name)):
        shutil.rmtree(root / unused, ignore_errors=True)
    return new
