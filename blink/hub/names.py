"""Names on the hub, ``hf://OWNER/NAME`` or ``hf://OWNER/NAME@REVISION``, and the folders they are downloaded to.

No other name is ever looked up there. What was downloaded once is opened without a network.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

from blink.errors import DataError, MissingFileError, SettingsError, first_line
from blink.extras import require_extra

PREFIX = "hf://"
_NAME = re.compile(r"hf:/{1,2}(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
"""A `pathlib.Path` of a name has one slash."""
FILES = ("*.json", "*.jsonl", "*.safetensors", "*.npy", "*.faiss", "*.txt", "*.md")
"""What is downloaded: none of these files can run code when it is read."""


def is_hub_name(name: str | Path) -> bool:
    """Whether ``name`` is one of the hub."""
    return str(name).startswith("hf:/")


def local_folder(name: str | Path) -> Path:
    """The folder of a model or knowledge base: ``name`` itself, unless it is one of the hub, which is downloaded.

    Raises:
        SettingsError: a name of the hub is malformed, or the library of the hub is not installed.
        MissingFileError: there is nothing of that name, or it was never downloaded and the hub cannot be reached.
    """
    if not is_hub_name(name):
        return Path(name)
    match = _NAME.fullmatch(str(name))
    if match is None:
        raise SettingsError(f"{name} is no name of the hub; give {PREFIX}OWNER/NAME, or {PREFIX}OWNER/NAME@REVISION")
    return _download(match["repo"], match["revision"])


def hub_library(purpose: str) -> Any:
    """The library of the hub.

    Raises:
        SettingsError: it is not installed.
    """
    library = require_extra("huggingface_hub", purpose, "hub")
    if not sys.stderr.isatty():
        require_extra("huggingface_hub.utils", purpose, "hub").disable_progress_bars()
    return library


def endpoint() -> str | None:
    """The address of the hub, where the environment names another than the public one."""
    return os.environ.get("HF_ENDPOINT") or None


def _download(repo: str, revision: str | None) -> Path:
    library = hub_library(f"names that begin with {PREFIX}")
    errors = require_extra("huggingface_hub.errors", "names of the hub", "hub")
    name = f"{PREFIX}{repo}" + (f"@{revision}" if revision else "")
    try:
        return Path(library.snapshot_download(repo, revision=revision, allow_patterns=list(FILES), endpoint=endpoint()))
    except errors.HFValidationError as error:
        raise SettingsError(f"{name} is no name of the hub: {first_line(error)}") from error
    except Exception as error:  # the library has no family of errors
        raise missing(name, error) from error


def missing(name: str, error: Exception) -> MissingFileError | DataError:
    """The error for what the hub, or the way to it, refused; one line that says what to do."""
    errors = require_extra("huggingface_hub.errors", "names of the hub", "hub")
    if isinstance(error, errors.RevisionNotFoundError):
        return MissingFileError(f"{name} has no such revision on the hub; name a branch, tag or commit of it")
    if isinstance(error, errors.RepositoryNotFoundError):  # gated ones among them; the hub does not tell private from missing
        return MissingFileError(f"{name} is not on the hub, or you may not read it; check the name, or log in: hf auth login")
    reason = first_line(error.__cause__ or error)
    response = getattr(error, "response", None)
    if response is not None:
        return DataError(f"the hub refused {name} (status {response.status_code}: {reason}); check your token: hf auth whoami")
    where = f"the hub cannot be reached for {name}, and it was not downloaded before"
    return MissingFileError(f"{where} ({reason}); connect, unset HF_HUB_OFFLINE, or give a folder")
