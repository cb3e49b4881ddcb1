"""Converts the published layout to transformers and back: weights, settings, entity vocabulary and tokenizer."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer, LukeConfig, LukeForMaskedLM, LukeTokenizer, PreTrainedModel

from blink.errors import CheckpointError, MissingFileError, first_line
from blink.files import atomic_open, disk_errors, disk_named, locked, sample_hash, umask
from blink.left_overs import temporary_folder
from blink.model.pretrained import quiet_transformers
from blink.replacing import replacing
from blink.work_folders import replace_folder
from examples.luke.archive import METADATA, TITLES, WEIGHTS, Archive, EntityRow, read_archive, read_titles

HEADS = ("lm_head.", "entity_predictions.")
"""Name prefixes of the heads; all other weights belong to the encoder."""
QUERIES = ("w2e_query", "e2w_query", "e2e_query")
"""Queries of entity-aware attention, initialised as copies of ``query``."""
FIRST, SECOND = "<ent>", "<ent2>"
MARKED_LIKE = {FIRST: "@", SECOND: "#"}
"""Markers of transformers' tokenizer, and the tokens whose embeddings initialise them."""
PAD, UNKNOWN, MASK, MASK2 = "[PAD]", "[UNK]", "[MASK]", "[MASK2]"
SPECIAL_ENTITIES = (PAD, UNKNOWN, MASK, MASK2)

EMBEDDED = "luke.embeddings.word_embeddings.weight"
ENTITY_TABLE = "luke.entity_embeddings.entity_embeddings.weight"
VERSION = 1
"""Version of the conversion; cached results of older versions are not used."""


def to_transformers(archive: Archive, tokenizer: str | None = None) -> tuple[LukeForMaskedLM, LukeTokenizer]:
    """Convert a published model into one of transformers, with its tokenizer.

    Args:
        archive: the model.
        tokenizer: name or folder of the word tokenizer; None for the one that the archive names.

    Raises:
        CheckpointError: weights are missing or of another model, or the tokenizer cannot be loaded.
    """
    vocab, merges = word_vocabulary(tokenizer or archive.encoder_name)
    state = {k if k.startswith(HEADS) else f"luke.{k}": v for k, v in archive.state.items()}
    state.pop("luke.embeddings.position_ids", None)
    for needed in (EMBEDDED, ENTITY_TABLE):
        if needed not in state:
            raise CheckpointError(f"the weights hold no {needed.removeprefix('luke.')}; is it a LUKE model?")
    words = len(state[EMBEDDED])
    vocab = {token: i for token, i in vocab.items() if i < words}
    _add_markers(state, vocab)
    titles = _add_second_mask(state, archive.entities)
    if archive.config.get("use_entity_aware_attention") is False:  # the file may contain them although they are unused
        state = {name: value for name, value in state.items() if not is_further_query(name)}
    copy_queries(state)
    config = _config(archive.config, state)
    with quiet_transformers():
        model = LukeForMaskedLM(config)
    _fill(model, state)
    tables: Any = {"vocab": vocab, "merges": merges, "entity_vocab": titles}
    word_tokenizer = LukeTokenizer(
        **tables,
        max_mention_length=int(archive.metadata.get("max_mention_length", 30)),
        max_entity_length=int(archive.metadata.get("max_entity_length", 128)),
        model_max_length=int(archive.metadata.get("max_seq_length", 512)),
    )
    return model.eval(), word_tokenizer


def to_archive(model: LukeForMaskedLM, tokenizer: Any, encoder_name: str, counts: Mapping[str, int] | None = None) -> Archive:
    """Convert a model of transformers into the published layout, which has no markers, second mask and extra queries.

    Trained extra queries are kept; readers of the layout ignore them.
    """
    state = {k.removeprefix("luke."): v.detach().clone() for k, v in model.state_dict().items()}
    words = tokenizer.convert_tokens_to_ids(FIRST)
    for name in ("embeddings.word_embeddings.weight", "lm_head.decoder.weight", "lm_head.decoder.bias", "lm_head.bias"):
        state[name] = state[name][:words]
    ids: dict[str, int] = tokenizer.entity_vocab
    # Without the second mask, and with padding in row 0, as in the layout.
    titles = sorted((t for t in ids if t != MASK2), key=lambda t: (t != PAD, ids[t]))
    rows = [ids[title] for title in titles]
    for name in ("entity_embeddings.entity_embeddings.weight", "entity_predictions.decoder.weight", "entity_predictions.bias"):
        state[name] = state[name][rows]
    for name in filter(is_further_query, list(state)):
        plain = name
        for query in QUERIES:
            plain = plain.replace(f".{query}.", ".query.")
        if torch.equal(state[name], state[plain]):
            del state[name]
    computed = ("architectures", "dtype", "transformers_version", "_name_or_path")
    config = {k: v for k, v in model.config.to_dict().items() if k not in computed}
    config |= {"vocab_size": words, "entity_vocab_size": len(rows), "bert_model_name": encoder_name}
    metadata = {
        "model_config": config,
        "max_seq_length": 512,
        "max_entity_length": 128,
        "max_mention_length": tokenizer.max_mention_length,
    }
    return Archive(state, metadata, [EntityRow((title,), (counts or {}).get(title, 0)) for title in titles])


def is_further_query(name: str) -> bool:
    """Whether a weight belongs to the extra queries of entity-aware attention."""
    return any(f".{query}." in name for query in QUERIES)


def copy_queries(state: dict[str, Tensor]) -> None:
    """Add missing queries of entity-aware attention as copies, which leaves the attention unchanged."""
    for name in [n for n in state if ".attention.self.query." in n]:
        for query in QUERIES:
            state.setdefault(name.replace(".query.", f".{query}."), state[name].clone())


def word_vocabulary(name: str) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a byte-level tokenizer such as RoBERTa's, by name or folder.

    Raises:
        CheckpointError: it does not exist, or is of another type.
    """
    with quiet_transformers():
        try:
            tokenizer = AutoTokenizer.from_pretrained(name)
            settings = json.loads(tokenizer.backend_tokenizer.to_str())
        except (OSError, ValueError, AttributeError, TypeError) as error:
            problem = f"cannot load the tokenizer {name!r}, which the archive names ({first_line(error)})"
            raise CheckpointError(f"{problem}; give its folder by --tokenizer, or connect to a network") from error
    if settings["model"]["type"] != "BPE" or settings["pre_tokenizer"]["type"] != "ByteLevel":
        raise CheckpointError(
            f"the tokenizer {name!r} is not a byte-level BPE tokenizer like RoBERTa's; such archives cannot be converted"
        )
    vocab: dict[str, int] = dict(settings["model"]["vocab"])
    vocab |= {token["content"]: token["id"] for token in settings["added_tokens"] if token["content"] not in SPECIAL_ENTITIES}
    return vocab, [(a, b) for a, b in settings["model"]["merges"]]


def converted(path: Path, tokenizer: str | None, say: Callable[[str], None]) -> Path:
    """Convert a published model once, into a folder of the cache (``$XDG_CACHE_HOME/blink/luke``).

    Args:
        path: the archive: tar, folder or weights file.
        tokenizer: see `to_transformers`.
        say: gets a message with the folder.
    """
    weights = path if path.is_file() else path / WEIGHTS
    if not weights.is_file():
        raise MissingFileError(f"{path} holds no {WEIGHTS}; give a model in the published layout")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "blink" / "luke"
    cache.mkdir(parents=True, exist_ok=True)
    salt = tokenizer or "its-own"
    stem = (path.parent if path.suffix == ".bin" else path).name.split(".")[0]
    marks = [sample_hash(f) for f in (weights, weights.parent / METADATA) if f == weights or path.is_dir()]
    key = hashlib.sha256("\0".join([*marks, salt, str(VERSION)]).encode()).hexdigest()[:16]
    folder = cache / f"{stem}-{key}"
    with locked(cache, wait=True):  # several processes of a run may convert at once
        if not folder.is_dir():
            say(f"converting {path} for transformers, once, into {folder}")
            convert(path, folder, tokenizer)
    return folder


def convert(path: Path, folder: Path, tokenizer: str | None = None) -> None:
    """Write a published model as a folder of transformers, with ``entity_vocab.tsv`` for the counts, atomically."""
    archive = read_archive(path)
    model, words = to_transformers(archive, tokenizer)
    save_folder(model, words, folder, archive.entities)


def save_folder(model: PreTrainedModel, tokenizer: Any, folder: Path, entities: Sequence[EntityRow] = ()) -> None:
    """Write model and tokenizer for ``from_pretrained``: a new folder whole, the files of one that is there together.

    Args:
        model: the model.
        tokenizer: its tokenizer.
        folder: created if needed.
        entities: rows of a table of titles and counts, if any.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists():
        with replacing(folder) as work:
            _write_files(work, model, tokenizer, entities, folder)
        return
    with temporary_folder(folder) as work:
        _write_files(work, model, tokenizer, entities, folder)
        replace_folder(work, folder, ())


def _write_files(work: Path, model: PreTrainedModel, tokenizer: Any, entities: Sequence[EntityRow], folder: Path) -> None:
    with quiet_transformers(), disk_named(folder), disk_errors(folder):
        model.save_pretrained(work)
        tokenizer.save_pretrained(work)
    if entities:
        with atomic_open(work / TITLES) as f:
            f.writelines(f"{row.names[0]}\t{row.count}\n" for row in entities)
    for file in work.iterdir():  # libraries give some to their owner alone
        file.chmod(0o666 & ~umask())


def link_counts(folder: Path) -> dict[str, int]:
    """Title to number of links for a converted model; empty if the folder has no such table."""
    with suppress(FileNotFoundError):
        return {row.names[0]: row.count for row in read_titles(folder / TITLES)}
    return {}


def _add_markers(state: dict[str, Tensor], vocab: dict[str, int]) -> None:
    """Add rows and ids of the two markers, unless the model has them."""
    for marker, like in MARKED_LIKE.items():
        if marker in vocab:
            continue
        if like not in vocab:
            raise CheckpointError(
                f"the tokenizer has no token {like!r}, which initialises the marker {marker}; is it RoBERTa's?"
            )
        vocab[marker] = len(state[EMBEDDED])
        for name in (EMBEDDED, "lm_head.decoder.weight", "lm_head.decoder.bias", "lm_head.bias"):
            if name in state:
                state[name] = torch.cat([state[name], state[name][vocab[like]][None]])


def _add_second_mask(state: dict[str, Tensor], entities: Sequence[EntityRow]) -> dict[str, int]:
    """Add a row for the second mask, initialised from the first; returns the ids of all titles.

    Padding is moved to row 0: that row of the table gets no gradient, so it must not be the mask's.
    """
    titles = {name: i for i, row in enumerate(entities) for name in row.names}
    rows = len(state[ENTITY_TABLE])
    if missing := [name for name in SPECIAL_ENTITIES[:3] if name not in titles]:
        raise CheckpointError(f"the entity vocabulary lacks {', '.join(missing)}; is it LUKE's?")
    if rows != len(entities):
        raise CheckpointError(f"the model has {rows} entities, its vocabulary {len(entities)}; they do not belong together")
    order = list(range(rows))
    if titles[PAD] != 0:
        order[0], order[titles[PAD]] = titles[PAD], 0
    if MASK2 not in titles:
        order.append(titles[MASK])
    for name in (ENTITY_TABLE, "entity_predictions.decoder.weight", "entity_predictions.bias"):
        if name in state:
            state[name] = state[name][order]
    new_row = {old: new for new, old in enumerate(order[:rows])}
    return {**{name: new_row[i] for name, i in titles.items()}, **({} if MASK2 in titles else {MASK2: rows})}


def _config(values: Mapping[str, Any], state: Mapping[str, Tensor]) -> LukeConfig:
    settings = {k: v for k, v in values.items() if k not in ("bert_model_name", "architectures", "model_type")}
    sizes = {"vocab_size": len(state[EMBEDDED]), "entity_vocab_size": len(state[ENTITY_TABLE])}
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}  # older files have others, of BERT
    return LukeConfig(**{**settings, **sizes, **ids, "use_entity_aware_attention": True, "tie_word_embeddings": True})


def _fill(model: LukeForMaskedLM, state: dict[str, Tensor]) -> None:
    """Load all weights strictly, except those that may be missing: tied ones, and the pooler, which no task uses."""
    table = state[ENTITY_TABLE]
    if len(state.get("entity_predictions.decoder.weight", table)) != len(table):
        raise CheckpointError("the entity predictor and the entity table differ in size; the weights are of two models")
    # transformers no longer ties the word decoder; as a separate weight, it cannot be initialised at random.
    state.setdefault("lm_head.decoder.weight", state[EMBEDDED].clone())
    state.setdefault("entity_predictions.decoder.weight", table)
    if "lm_head.bias" in state:
        state.setdefault("lm_head.decoder.bias", state["lm_head.bias"])
    model_state = model.state_dict()
    for name in ("luke.pooler.dense.weight", "luke.pooler.dense.bias"):
        state.setdefault(name, model_state[name])
    try:
        model.load_state_dict({k: v.float() for k, v in state.items()}, strict=True)
    except RuntimeError as error:
        raise CheckpointError(
            f"the weights do not fit the settings in {METADATA} ({first_line(error)}); is it a LUKE model?"
        ) from error
