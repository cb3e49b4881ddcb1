"""The original's calls from Python, ``elq.main_dense``: `load_models` and `run` with its signatures and results."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from blink.compat.elq.files import link_with, open_files, passed_index, require_files
from blink.compat.elq.flags import SCRIPT
from blink.compat.elq.plan import resolve
from blink.compat.flags import require
from blink.compat.tables import Column, text, title, wikidata_id
from blink.errors import DataError, SettingsError
from blink.files import atomic_open

if TYPE_CHECKING:
    from torch import Tensor

    from blink.compat.elq.plan import Files, Plan
    from blink.data.records import Sample
    from blink.kb.catalogue import Catalogue
    from blink.kb.index import Index
    from blink.kb.knowledge_base import KnowledgeBase
    from blink.linking.linker import Linker
    from blink.model.biencoder import BiEncoder

Models: TypeAlias = "tuple[BiEncoder, dict[str, Any], Tensor | None, Index | None, Column[str], Column[str], Column[str]]"
"""The model, its settings, entity vectors or (where one is named) an index, and title, text and Wikidata id by row."""
WIKIDATA_FILE = "id2wikidata.json"
IN_MEMORY = Path("test_data")
"""Path of the mention file in messages where the caller passes mentions."""


def load_models(args: object, logger: logging.Logger | None = None) -> Models:
    """Open the files that a caller names.

    `WIKIDATA_FILE`, which callers of the original read, is written next to the catalogue.

    Args:
        args: has the attributes ``biencoder_model``, ``biencoder_config``, ``entity_catalogue``, and either
            ``entity_encoding`` or ``faiss_index`` and ``index_path``; perhaps ``eval_batch_size``, ``max_context_length``
            and ``use_cuda``.
        logger: gets a line about what is loaded.

    Returns:
        what `run` takes, in its order; see `Models`.

    Raises:
        SettingsError: an attribute is missing or its value not allowed.
        MissingFileError: a file is not there; the message names the command that downloads it.
        BlinkError: a file cannot be read, or files do not belong together.
    """
    from blink.kb.index import TorchIndex

    options = SCRIPT.from_attributes(args)
    files = _named_files(options)
    require_files(files)
    if logger is not None:
        logger.info("loading %s and %s", files.weights, files.catalogue)
    settings = _settings(files, options)
    model, kb = open_files(files, "cpu" if settings["no_cuda"] else "cuda")
    settings["max_context_length"] = options.max_context_length or model.config.max_context_length
    _write_wikidata_ids(kb.catalogue, logger)
    exact = kb.index if isinstance(kb.index, TorchIndex) else None
    columns = (Column(kb.catalogue, value, str) for value in (title, text, wikidata_id))
    return (model, settings, exact and exact.matrix, None if exact else kb.index, *columns)  # type: ignore[return-value]


def run(
    args: object,
    logger: logging.Logger | None,
    biencoder: BiEncoder,
    biencoder_params: Mapping[str, Any],
    candidate_encoding: Tensor | None,
    indexer: Index | None,
    id2title: Column[str],
    id2text: Column[str],
    id2wikidata: Column[str],
    test_data: Sequence[Mapping[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """Link texts, exactly as the original's later release does.

    Args:
        args: has the attributes ``threshold``, ``threshold_type``, ``num_cand_mentions``, ``num_cand_entities``, and
            perhaps ``mention_threshold``, ``test_mentions``, ``save_preds_dir`` and ``interactive``; the defaults are those
            of the original's command line.
        logger: gets a line about the work.
        biencoder: with the following: what `load_models` returns.
        biencoder_params: ``eval_batch_size`` and ``max_context_length`` are read at each call.
        candidate_encoding: entity vectors, searched exactly where there is no index.
        indexer: the index.
        id2title: titles, and with them the catalogue.
        id2text: unused.
        id2wikidata: unused.
        test_data: the texts, each with ``id`` and ``text``; with ``label_id`` and so on they are labelled, as in a file
            of mentions. By default the file ``args.test_mentions``.

    Returns:
        a record a text: ``id``, ``text``, ``scores``, ``pred_triples`` (row as text, first token, past token),
        ``pred_tuples_string`` (title, mention), ``tokens``, and of labelled texts ``gold_triples``, ``gold_tuples_string``.

    Raises:
        SettingsError: there is nothing to link, or an attribute's value is not allowed.
        DataError: a text is malformed; the message says which.
    """
    options = SCRIPT.from_attributes(args)
    plan = _plan(options, biencoder_params, in_memory=bool(test_data))
    linker = link_with(plan, biencoder, _knowledge_base(id2title, candidate_encoding, indexer, plan.device))
    if plan.interactive:
        from blink.apps.shell.run import run_dialogue

        run_dialogue(linker)
        return []
    samples, rows = _samples(plan, test_data)
    if logger is not None:
        logger.info("linking %d texts", len(samples))
    records = _link(plan, linker, samples)
    return [_as_called(record, row) for record, row in zip(records, rows, strict=True)]


def _named_files(options: argparse.Namespace) -> Files:
    from blink.cluster.runs import is_model_folder
    from blink.compat.elq.plan import files_of

    indexed = options.faiss_index not in (None, "none")
    needed = ["biencoder_model", "biencoder_config", "entity_catalogue", "index_path" if indexed else "entity_encoding"]
    if options.biencoder_model is not None and is_model_folder(Path(options.biencoder_model)):
        needed.remove("biencoder_config")
    require(options, *needed)
    if not indexed:
        options.faiss_index = "none"
    files = files_of(options)
    assert files is not None
    return files


def _settings(files: Files, options: argparse.Namespace) -> dict[str, Any]:
    """``biencoder_params``: the file of settings, overridden by ``args``."""
    import torch

    from blink.model.original import read_settings

    settings = {} if files.settings is None else read_settings(files.settings)
    no_cuda = not (options.use_cuda and torch.cuda.is_available())
    return settings | {
        "path_to_model": str(files.weights),
        "cand_token_ids_path": options.entity_token_ids,
        "eval_batch_size": options.eval_batch_size,
        "no_cuda": no_cuda,
        "data_parallel": False,
        "load_cand_enc_only": False,
    }


def _plan(options: argparse.Namespace, settings: Mapping[str, Any], *, in_memory: bool) -> Plan:
    if not (in_memory or options.test_mentions or options.interactive):
        raise SettingsError("there is nothing to link; pass test_data, or set args.test_mentions to a file of mentions")
    kind = options.threshold_type or "joint"
    if kind == "top_entity_by_mention" and options.mention_threshold is None:
        raise SettingsError(f"args.mention_threshold is not set, which {kind} needs; set it to a number such as -0.6931")
    threshold = -4.5 if options.threshold is None else options.threshold
    overrides = {
        "compat": "none" if options.interactive else "elq",
        "test_mentions": str(IN_MEMORY) if in_memory else options.test_mentions,
        "threshold_type": kind,
        "threshold": threshold,
        "mention_threshold": threshold if options.mention_threshold is None else options.mention_threshold,
        "eval_batch_size": settings.get("eval_batch_size", options.eval_batch_size),
        "max_context_length": settings.get("max_context_length", options.max_context_length),
        "use_cuda": not settings.get("no_cuda", True),
    }
    plan = resolve(argparse.Namespace(**{**vars(options), **overrides}))
    assert plan is not None
    return replace(plan, truncates=True)


def _knowledge_base(titles: Column[str], vectors: Tensor | None, index: Index | None, device: str) -> KnowledgeBase:
    from blink.kb.knowledge_base import KnowledgeBase

    if not isinstance(titles, Column):
        raise SettingsError(f"id2title is a {type(titles).__name__}; pass what load_models returned, all of it and in order")
    return KnowledgeBase(titles.catalogue, passed_index(vectors, index, "indexer", device))


def _samples(plan: Plan, test_data: Sequence[Mapping[str, Any]] | None) -> tuple[list[Sample], Sequence[Mapping[str, Any]]]:
    """The texts to link, and their rows as the caller or the file has them."""
    from blink.data.mention_files import parse_row
    from blink.files import read_json_lines, require_file

    assert plan.test_mentions is not None
    if test_data:
        rows, source = test_data, "test_data"
    else:
        source = str(require_file(plan.test_mentions, "set args.test_mentions to a file of mentions"))
        rows = [row for _, row in read_json_lines(plan.test_mentions)]
    samples = []
    for number, row in enumerate(rows):
        try:
            samples.append(parse_row(row, default_id=str(number)))
        except (DataError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"{source}, entry {number}: {error}; give each text an 'id' and a 'text'") from error
    return samples, rows


def _link(plan: Plan, linker: Linker, samples: Sequence[Sample]) -> list[dict[str, Any]]:
    from blink.compat.elq.batch import link_rows, print_metrics
    from blink.compat.elq.predictions import Totals
    from blink.compat.elq.results import Results

    totals = Totals()
    if plan.save_to is not None:
        plan.save_to.mkdir(parents=True, exist_ok=True)
    with Results.open(plan.save_to) as results:
        records = [done.record for done in link_rows(plan, linker, samples, results, totals)]
    if totals.overall.gold:
        print_metrics(totals)
    return records


def _as_called(record: dict[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """A record with the caller's id, and triples as tuples."""
    triples = {key: [tuple(t) for t in record[key]] for key in ("pred_triples", "gold_triples") if key in record}
    return record | {"id": row.get("id", record["id"])} | triples


def _write_wikidata_ids(catalogue: Catalogue, logger: logging.Logger | None) -> None:
    """Write row -> Wikidata id next to the catalogue, unless a newer file is there or the folder cannot be written."""
    path = catalogue.path.parent / WIKIDATA_FILE
    if path.is_file() and path.stat().st_mtime >= catalogue.path.stat().st_mtime:
        return
    try:
        with atomic_open(path) as f:
            json.dump(dict(Column(catalogue, wikidata_id, str)), f)
    except OSError as error:
        if logger is not None:
            logger.info("%s is not written: %s", path, error)
