"""Implementation of the commands of entity disambiguation."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from blink.apps.common import say
from blink.errors import MissingFileError, SettingsError
from blink.files import atomic_open
from examples.entity_disambiguation.data import REMEDY, SETS, read_documents, read_titles
from examples.entity_disambiguation.task import DisambiguationOptions, EntityDisambiguation
from examples.entity_disambiguation.windows import Limits
from examples.luke.convert import save_folder
from examples.luke.loading import load_base
from examples.luke.options import Common, Plan
from examples.luke.pretrained import PretrainedLuke, load_pretrained
from examples.luke.run import WEIGHTS_FILE, run_task


def run_disambiguation(common: Common, plan: Plan, **options: Any) -> None:
    """Fine-tune and evaluate; see the command's help."""
    limits = Limits(
        options["max_seq_length"], options["max_entity_length"], options["max_candidate_length"], options["document_split_mode"]
    )
    titles = read_titles(options["titles_file"], options["redirects_file"])
    files = tuple(Path(options[name]) for name in ("titles_file", "redirects_file") if options[name])
    task_options = {name: options[name] for name in ("max_mention_length", "masked_entity_prob", "inference_mode")}
    task = EntityDisambiguation(
        DisambiguationOptions(limits, **task_options, titles=titles, title_files=files), functools.partial(_source, common)
    )
    if not plan.do_train and plan.do_eval and not plan.checkpoint_file and common.model_file:
        _assemble(task, common)
    run_task(task, common, plan)


def _source(common: Common) -> PretrainedLuke:
    assert common.model_file is not None  # a new model is made from it
    return load_pretrained(common.model_file, common.tokenizer, say)


def _assemble(task: EntityDisambiguation, common: Common) -> None:
    """Write the pre-trained model into the run's folder for evaluation, unless a fine-tuned one exists."""
    if common.output_dir is None:
        raise SettingsError("a pre-trained model is evaluated from a folder of its own; give --output-dir before the task")
    if (Path(common.output_dir) / WEIGHTS_FILE).is_file():
        return
    assert common.model_file is not None
    base = load_base(common.model_file, common.tokenizer, say)
    tuned = base.with_head(task.head(), task.labels([]), all_entities=True, **task.head_settings())
    task.adopt(tuned.labels, tuned.model)
    save_folder(tuned.model, tuned.tokenizer, Path(common.output_dir))


def write_candidates(out: str, data_dir: str, redirects_file: str | None) -> None:
    """Write the titles of all candidates and gold entities of the data sets in a folder.

    Raises:
        MissingFileError: the folder has none of the data sets.
    """
    folder, titles = Path(data_dir), read_titles(None, redirects_file)
    available = [name for name, (table, _) in SETS.items() if (folder / table).is_file()]
    if not available:
        raise MissingFileError(f"{folder} holds none of the sets ({', '.join(table for table, _ in SETS.values())}); {REMEDY}")
    mentions = [m for name in available for d in read_documents(folder, name, titles) for m in d.mentions]
    titles_of_candidates = {title for m in mentions for title in (m.title, *(c.title for c in m.candidates))}
    with atomic_open(out) as f:
        f.writelines(f"{title}\n" for title in sorted(titles_of_candidates))
    say(f"{len(titles_of_candidates)} titles of {', '.join(available)} in {out}")
