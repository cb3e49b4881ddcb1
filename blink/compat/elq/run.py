"""The way in: flags to a plan, then a mention file is linked, or texts are typed."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from blink.apps.common import guarded, say
from blink.compat.elq.files import open_linker, require_files
from blink.compat.elq.flags import SCRIPT
from blink.compat.elq.plan import resolve

if TYPE_CHECKING:
    from blink.data.records import Sample


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    return guarded(lambda: _run(sys.argv[1:] if arguments is None else arguments), SCRIPT.program)


def _run(arguments: Sequence[str]) -> None:
    plan = resolve(SCRIPT.parse(arguments))
    if plan is None:
        say("there is nothing to do")
        return
    if plan.files is not None:
        require_files(plan.files)
    samples = None if plan.test_mentions is None else _samples(plan.test_mentions)
    if samples is not None and plan.save_to is not None:
        plan.save_to.mkdir(parents=True, exist_ok=True)
    linker = open_linker(plan)
    if samples is not None:
        from blink.compat.elq.batch import link_file

        link_file(plan, linker, samples)
        return
    from blink.apps.shell.run import run_dialogue

    run_dialogue(linker)


def _samples(path: Path) -> Iterator[Sample]:
    """The samples of a file; the first is read at once, so that a wrong path fails before a model is loaded."""
    from blink.data.mention_files import read_samples

    samples = read_samples(path)
    return itertools.chain([next(samples)], samples)
