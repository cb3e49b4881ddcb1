"""Publishes what lies in folders, on the hub or as a folder of the same files."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from blink.errors import SettingsError
from blink.files import atomic_open, disk_named
from blink.hub.cards import CardOptions, Figure, card
from blink.hub.names import FILES, PREFIX, endpoint, hub_library, missing
from blink.left_overs import temporary_folder
from blink.work_folders import replace_folder

CARD_FILE = "README.md"
_REPO = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Publication:
    """What is published.

    Attributes:
        kind: ``model``, ``knowledge base`` or ``linker``.
        files: local files by their name in the repository, which may be in folders.
        facts: for the card.
    """

    kind: str
    files: Mapping[str, Path]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def inside(self, folder: str) -> dict[str, Path]:
        """The files, but for the card, in a folder of the repository."""
        return {f"{folder}/{name}": path for name, path in self.files.items() if name != CARD_FILE}


class Publishable:
    """Gives models, knowledge bases and linkers `push_to_hub`."""

    def _publication(self) -> AbstractContextManager[Publication]:
        """What is published; its files exist inside the block."""
        raise NotImplementedError

    def push_to_hub(
        self,
        repo: str,
        *,
        private: bool | None = None,
        revision: str | None = None,
        token: str | None = None,
        message: str | None = None,
        license: str | None = None,
        language: str | Sequence[str] = (),
        tags: Sequence[str] = (),
        figures: Iterable[Figure | Mapping[str, Any]] = (),
    ) -> str:
        """Publish the files in a repository of the hub, in one commit, with a card. They replace those of earlier commits.

        Args:
            repo: ``OWNER/NAME``, with or without ``hf://``; it is created if there is none.
            private: whether a new repository is private; by default as the account says.
            revision: branch to commit to; by default the main one.
            token: of the hub; by default that of `hf auth login` or ``HF_TOKEN``.
            message: of the commit.
            license: for the card, such as ``mit``.
            language: codes of languages, for the card.
            tags: for the card.
            figures: for the card, see `blink.hub.cards.Figure`; precision and hardware are part of each.

        Returns:
            the address of the commit.

        Raises:
            SettingsError: the name is malformed, or it cannot be published.
            BlinkError: the hub refused it, or cannot be reached.

        Example:
            >>> linker.push_to_hub("me/news-linker", license="mit", language="en")  # doctest: +SKIP
        """
        repo = repo.removeprefix(PREFIX)
        if _REPO.fullmatch(repo) is None:
            raise SettingsError(f"{repo!r} is no name of a repository; give OWNER/NAME")
        languages = [language] if isinstance(language, str) else list(language)
        options = CardOptions(license, languages, tuple(tags), tuple(map(Figure.of, figures)))
        with self._publication() as publication:
            text = _card(publication, repo, options)
            return _commit(repo, publication.files, text, private, revision, token, message or f"Upload a {publication.kind}")


def write_publication(publication: Publication, folder: str | Path, name: str = "local/copy") -> None:
    """Write the files of a publication into a folder, as a repository of the hub has them.

    Raises:
        SettingsError: the folder holds other files.
    """
    folder = Path(folder)
    if folder.is_dir() and any(folder.iterdir()):
        raise SettingsError(f"{folder} is not empty; name a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with disk_named(folder), temporary_folder(folder) as work:
        for relative, path in publication.files.items():
            target = work / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)  # follows links, as the hub's cache has them
        with atomic_open(work / CARD_FILE) as f:
            f.write(_card(publication, name, CardOptions()))
        replace_folder(work, folder, ())


def _is_replaced(name: str) -> bool:
    """Whether a file of a repository would be read with those that replace it, such as the journal of other files."""
    return name != CARD_FILE and any(fnmatch(name, pattern) for pattern in FILES)


def _card(publication: Publication, repo: str, options: CardOptions) -> str:
    readme = publication.files.get(CARD_FILE)
    text = None if readme is None else readme.read_text(encoding="utf-8", errors="replace")
    return card(publication.kind, repo, publication.facts, options, text)


def _commit(
    repo: str, files: Mapping[str, Path], text: str, private: bool | None, revision: str | None, token: str | None, message: str
) -> str:
    library = hub_library("push_to_hub and names of the hub")
    api = library.HfApi(endpoint=endpoint(), token=token)
    operations = [library.CommitOperationAdd(CARD_FILE, text.encode())]
    operations += [library.CommitOperationAdd(name, path) for name, path in files.items() if name != CARD_FILE]
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo, branch=revision, exist_ok=True)
        earlier = [name for name in api.list_repo_files(repo, revision=revision) if name not in files and _is_replaced(name)]
        operations += [library.CommitOperationDelete(name) for name in earlier]
        return str(api.create_commit(repo, operations, commit_message=message, revision=revision).commit_url)
    except Exception as error:  # the library has no family of errors
        raise missing(PREFIX + repo, error) from error
