"""The table of all writers of the product."""

from __future__ import annotations

from tests.faults import writers_data, writers_kb, writers_models, writers_runs
from tests.faults.trial import Writer

WRITERS: tuple[Writer, ...] = (*writers_kb.WRITERS, *writers_data.WRITERS, *writers_models.WRITERS, *writers_runs.WRITERS)
