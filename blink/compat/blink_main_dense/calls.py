"""The original's calls from Python, ``blink.main_dense``: `load_models` and `run` with its signatures and results."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from blink.compat.blink_main_dense.flags import SCRIPT
from blink.compat.elq.files import open_files, passed_index, require_files
from blink.compat.elq.plan import Files
from blink.compat.flags import require
from blink.compat.tables import Column, Rows, page_id, text, title
from blink.errors import MissingFileError, SettingsError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from blink.compat.blink_main_dense.crossencoder import CrossEncoder
    from blink.kb.index import Index
    from blink.model.biencoder import BiEncoder

Models: TypeAlias = (
    "tuple[BiEncoder, dict[str, Any], CrossEncoder | None, dict[str, Any] | None, Tensor | None, Rows[str], Column[int], "
    "Column[int], Rows[int | str], Index | None]"
)
"""Bi-encoder and cross-encoder, each with its settings; entity vectors; row by title, title and text by row, row by page id;
index."""
Answer: TypeAlias = "tuple[float, float, float, float, int, list[list[str]], list[Any]]"
FILES = ("biencoder_model", "biencoder_config", "entity_catalogue")


def load_models(args: object, logger: logging.Logger | None = None) -> Models:
    """Open the files that a caller names.

    Args:
        args: has the attributes `FILES`, and either ``entity_encoding`` or ``faiss_index`` and ``index_path`` (or
            ``indexer_path``); and ``fast``, or else ``crossencoder_model`` and ``crossencoder_config``.
        logger: gets a line about what is loaded.

    Returns:
        what `run` takes, in its order; see `Models`.

    Raises:
        SettingsError: an attribute is missing or its value not allowed.
        MissingFileError: a file is not there; the message names the command that downloads it.
        BlinkError: a file cannot be read, or files do not belong together.
    """
    from blink.kb.index import TorchIndex
    from blink.model.original import read_settings

    options = SCRIPT.from_attributes(args)
    files = _named_files(args, options)
    require_files(files)
    assert files.settings is not None
    settings = {**read_settings(files.settings), "path_to_model": str(files.weights)}
    if logger is not None:
        logger.info("loading %s and %s", files.weights, files.catalogue)
    device = _device(settings)
    model, kb = open_files(files, device)
    if model.config.aggregation != "cls" or settings.get("add_linear"):
        raise SettingsError(f"{files.weights} is no bi-encoder of BLINK's as published; call elq.main_dense for an ELQ model")
    crossencoder, crossencoder_settings = (None, None) if options.fast else _read_crossencoder(args, device)
    exact = kb.index if isinstance(kb.index, TorchIndex) else None
    return (
        model.to(device),
        settings,
        crossencoder,
        crossencoder_settings,
        None if exact is None else exact.matrix,
        Rows(kb.catalogue, title),
        Column(kb.catalogue, title, int),
        Column(kb.catalogue, text, int),
        Rows(kb.catalogue, page_id),
        kb.index if exact is None else None,
    )


def run(
    args: object,
    logger: logging.Logger | None,
    biencoder: BiEncoder,
    biencoder_params: Mapping[str, Any],
    crossencoder: CrossEncoder | None,
    crossencoder_params: Mapping[str, Any] | None,
    candidate_encoding: Tensor | None,
    title2id: Mapping[str, int],
    id2title: Mapping[int, str],
    id2text: Mapping[int, str],
    wikipedia_id2local_id: Mapping[int | str, int],
    faiss_indexer: Index | None = None,
    test_data: Sequence[Mapping[str, Any]] | None = None,
) -> Answer:
    """Link mentions.

    Args:
        args: has the attributes ``top_k`` and ``fast``, and perhaps ``test_mentions`` and ``test_entities``; the defaults
            are those of the original's command line.
        logger: gets a line about the work.
        biencoder: with the following: what `load_models` returned.
        biencoder_params: ``eval_batch_size`` and ``max_context_length`` are read at each call.
        crossencoder: None with ``fast``.
        crossencoder_params: ``eval_batch_size`` is read at each call.
        candidate_encoding: entity vectors, searched exactly where there is no index.
        title2id: row by title, for ``args.test_entities``.
        id2title: title by row.
        id2text: description by row, for the cross-encoder.
        wikipedia_id2local_id: row by page id, for ``args.test_mentions``.
        faiss_indexer: the index.
        test_data: the mentions, each with ``context_left``, ``mention`` and ``context_right``, and with ``label_id`` (the
            row, or -1) where they are labelled. By default the file ``args.test_mentions``.

    Returns:
        share of mentions whose first candidate of the bi-encoder is right; share with the right one among the first
        ``top_k - 1`` (sic); of these, share that the cross-encoder puts first; share of all mentions; number of mentions;
        titles by mention, best first; and their scores. Shares of unlabelled mentions are -1.

    Raises:
        SettingsError: there is nothing to link, or an attribute's value is not allowed.
        DataError: a mention is malformed; the message says which.
    """
    options = SCRIPT.from_attributes(args)
    _require_work(options, test_data)
    if not options.fast and crossencoder is None:
        raise SettingsError("the models were loaded without a cross-encoder; set args.fast to True, or load them again")
    samples: Sequence[Mapping[str, Any]] = test_data or _from_file(options, title2id, wikipedia_id2local_id)
    if logger is not None:
        logger.info("linking %d mentions", len(samples))
    device = str(next(biencoder.parameters()).device)
    index = passed_index(candidate_encoding, faiss_indexer, "faiss_indexer", device)
    scores, rows = _retrieve(biencoder, biencoder_params, index, samples, options.top_k)
    labels = _labels(samples)
    accuracy, recall = (-1.0, -1.0) if labels is None else _retrieved(rows, labels, options.top_k)
    normalized = overall = -1.0
    if not options.fast:
        assert crossencoder is not None
        scores = crossencoder.score(
            samples, rows, id2title, id2text,
            context_length=int(biencoder_params["max_context_length"]),
            batch_size=int((crossencoder_params or {}).get("eval_batch_size") or 1),
        )  # fmt: skip
        scores, rows = _sorted(scores, rows)
        if labels is not None:
            normalized, overall = _ranked(rows, labels)
    predictions = [[id2title[int(row)] for row in of_mention if row >= 0] for of_mention in rows]
    lists = [of_mention[: len(titles)] for of_mention, titles in zip(scores, predictions, strict=True)]
    return accuracy, recall, normalized, overall, len(samples), predictions, lists if options.fast else [list(s) for s in lists]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``python blink/main_dense.py``; returns the exit status."""
    from blink.apps.common import guarded

    def link() -> None:
        options = SCRIPT.parse(sys.argv[1:] if arguments is None else arguments)
        _require_work(options, None)
        run(options, None, *load_models(options))

    return guarded(link, SCRIPT.program)


def _named_files(args: object, options: argparse.Namespace) -> Files:
    indexed = options.faiss_index not in (None, "none")
    require(args, *FILES, *(() if indexed else ("entity_encoding",)))
    if indexed and options.indexer_path is None:
        raise SettingsError(f"args.index_path is not set; give the path of the {options.faiss_index} index")
    return Files(
        Path(options.biencoder_model),
        Path(options.biencoder_config),
        Path(options.entity_catalogue),
        Path(options.entity_encoding),
        Path(options.indexer_path) if indexed else None,
    )


def _device(settings: Mapping[str, Any]) -> str:
    import torch

    return "cuda" if torch.cuda.is_available() and not settings.get("no_cuda") else "cpu"


def _read_crossencoder(args: object, device: str) -> tuple[CrossEncoder, dict[str, Any]]:
    from blink.compat.blink_main_dense.crossencoder import CrossEncoder

    paths = [Path(getattr(args, name, None) or "") for name in ("crossencoder_model", "crossencoder_config")]
    if not all(path.is_file() for path in paths):
        missing = next(path for path in paths if not path.is_file())
        raise MissingFileError(
            f"the cross-encoder {missing} does not exist; get it with `./download_models.sh --only {missing.name}`, or set "
            "args.fast to True to link without"
        )
    model, settings = CrossEncoder.read(*paths)
    return model.to(device), {**settings, "path_to_model": str(paths[0])}


def _require_work(options: argparse.Namespace, test_data: Sequence[Mapping[str, Any]] | None) -> None:
    if options.interactive:
        raise SettingsError(
            "BLINK's model finds no mentions, so there is nothing to type; run `python blink/main_dense_all_ents.py -i` or "
            "`blink shell`"
        )
    if not test_data and options.test_mentions is None:
        raise SettingsError("there is nothing to link; pass test_data, or set args.test_mentions to a file of mentions")


def _from_file(
    options: argparse.Namespace, title2id: Mapping[str, int], pages: Mapping[int | str, int]
) -> list[dict[str, Any]]:
    from blink.compat.blink_main_dense.samples import read_mentions

    return read_mentions(options.test_mentions, options.test_entities, title2id, pages)


def _retrieve(
    model: BiEncoder, settings: Mapping[str, Any], index: Index, samples: Sequence[Mapping[str, Any]], top_k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Scores and rows of the candidates of mentions. *Shape:* (len(samples), top_k), each.

    Of an index that stores lengthened vectors, scores are squared L2 distances, small ones first, as the original's are.
    """
    import numpy as np

    from blink.compat.blink_main_dense.inputs import encode_mentions, mention_inputs
    from blink.kb.index import FaissIndex

    inputs = mention_inputs(model.tokenizer, samples, int(settings["max_context_length"]))
    vectors = encode_mentions(model, inputs, int(settings.get("eval_batch_size") or 8))
    scores, rows = index.search(vectors, top_k)
    if isinstance(index, FaissIndex) and index.phi is not None:
        scores = ((vectors**2).sum(1, keepdims=True) + index.phi - 2 * scores).astype(np.float32)
    return scores, rows


def _labels(samples: Sequence[Mapping[str, Any]]) -> np.ndarray | None:
    """Rows of the labels; None where the first mention has none, as in the original."""
    import numpy as np

    first = samples[0]
    if first.get("label") == "unknown" or int(first.get("label_id", -1)) < 0:
        return None
    return np.array([int(sample.get("label_id", -1)) for sample in samples])


def _retrieved(rows: np.ndarray, labels: np.ndarray, top_k: int) -> tuple[float, float]:
    hits = rows == labels[:, None]
    accuracy, recall = float(hits[:, 0].mean()), float(hits[:, : max(1, top_k - 1)].any(1).mean())
    sys.stdout.write(f"biencoder accuracy: {accuracy:.4f}\nbiencoder recall@{top_k}: {recall:.4f}\n")
    return accuracy, recall


def _sorted(scores: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    import numpy as np

    order = np.argsort(-scores, axis=1, kind="stable")
    return np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)


def _ranked(rows: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    hits = rows == labels[:, None]
    retrieved = hits.any(1)
    normalized = float(hits[retrieved, 0].mean()) if retrieved.any() else -1.0
    overall = float(hits[:, 0].mean())
    sys.stdout.write(f"crossencoder normalized accuracy: {normalized:.4f}\noverall unnormalized accuracy: {overall:.4f}\n")
    return normalized, overall
