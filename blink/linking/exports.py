"""What a linker and its links become elsewhere: data frames, pickles, folders, repositories of the hub."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from blink.data.frames import links_frame
from blink.data.records import LinkedText
from blink.hub.publishing import Publication, Publishable, write_publication
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.where import WhereLike
from blink.linking.bundle import linker_publication
from blink.linking.stages import LinkerOptions

if TYPE_CHECKING:
    import pandas as pd

    from blink.data.frames import Texts
    from blink.linking.linker import Linker


class LinkerExports(Publishable):
    """Methods of `blink.linking.linker.Linker` that hand it, or its links, to other libraries."""

    kb: KnowledgeBase
    options: LinkerOptions
    _source: Any
    _replaced_stages: Mapping[str, Any]
    _from_source: Callable[..., Any]

    if TYPE_CHECKING:

        def link(self, texts: Iterable[str], *, batch_size: int = 64, where: WhereLike = None) -> Iterator[LinkedText]:
            """Link texts; of `Linker`."""

    def to_frame(
        self,
        texts: Texts,
        column: str = "text",
        keep: Sequence[str] = (),
        *,
        batch_size: int = 64,
        where: WhereLike = None,
    ) -> pd.DataFrame:
        """Link a series, a column of a data frame, or a list of texts; a data frame with a row for each link and the index of
        its text. Arguments, columns and errors as of `blink.data.frames.links_frame` and `link`.
        """
        return links_frame(texts, lambda rows: self.link(rows, batch_size=batch_size, where=where), column, keep)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Pickled and copied as model folder, knowledge base folder and options; a model in memory is pickled itself."""
        options = {f.name: getattr(self.options, f.name) for f in fields(LinkerOptions)}
        if self.options.prior_file is not None:
            options["prior"] = self.options.prior_file.resolve()
        return self._from_source, (self._source, self.kb, options | {"stages": self._replaced_stages})

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the linker into a new folder: its model, knowledge base, prior and options, with a card. `blink.load(folder)`
        is this linker again, on any machine; precision, device and backend are those of that machine.

        Raises:
            SettingsError: the folder is not empty, or a part of the linker is in memory alone.
        """
        with self._publication() as publication:
            write_publication(publication, folder, f"local/{Path(folder).name}")

    def _publication(self) -> AbstractContextManager[Publication]:
        return linker_publication(cast("Linker", self), self._source, self._replaced_stages)
