"""The table of all writers of the product."""

from __future__ import annotations

from tests.faults import writers_data, writers_graphs, writers_kb, writers_models, writers_runs
from tests.faults.trial import Writer

_PARTS = (writers_kb, writers_data, writers_models, writers_runs, writers_graphs)
WRITERS: tuple[Writer, ...] = tuple(writer for part in _PARTS for writer in part.WRITERS)
