"""The analyses of a run in one file, for threshold sweeps without the model.

The file is an ``.npz`` of plain arrays. Ragged lists are concatenated; the array ``X_at`` holds the n + 1 offsets of the n
slices of ``X``.

| array | shape | meaning |
| --- | --- | --- |
| ``metadata`` | (bytes,) | JSON: `Provenance` |
| ``ids``, ``texts`` | (bytes,) | UTF-8, a slice per text |
| ``pieces`` | (tokens, 2) | characters ``[start, end)`` of the tokens, a slice per text |
| ``spans_at`` | (texts + 1,) | offsets of each text's spans |
| ``spans.NAME`` | (m, ...) | an array per field of `ScoredSpans`; positions are token indices in the text |
| ``characters`` | (m, 2) | characters ``[start, end)`` of each span, for other programs |
| ``labelled`` | (texts,) | whether a text has gold |
| ``gold`` | (g, 3) | start, end, catalogue row or -1, a slice per text |
| ``gold_ids`` | (bytes,) | UTF-8, the Wikidata id of each gold mention, or empty |
| ``gold_slices`` | (g,) | index into `STRATA`, or -1 |
| ``sha256`` | (32,) | of the other arrays, see `blink.data.arrays.hash_of`; missing in files of earlier versions |
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from blink.checksums import CHECKSUMS_FILE
from blink.data.arrays import hash_of, read_archive
from blink.data.records import Mention, Sample
from blink.errors import DataError, MismatchError, ShapeError
from blink.evaluation.strata import STRATA, SampleStrata
from blink.files import atomic_open, require_file, sample_hash, sha256
from blink.input_files import read_bytes
from blink.kb.live.journal import JOURNAL_FILE
from blink.kb.manifest import MANIFEST_FILE, read_manifest
from blink.linking.analysis import Analysis
from blink.linking.decoder import MODES
from blink.linking.scoring import ScoredSpans
from blink.model.execution import Execution
from blink.model.folder import BASE_FOLDER, HAS_RERANKER

FORMAT = 1
FILE_NAME = "predictions.npz"
Arrays: TypeAlias = Mapping[str, np.ndarray]
_SPANS = "spans."
_DIGEST = "sha256"
_REMEDY = "write it again: blink eval FILE --save-preds OUT.npz"
_SLICE_NAMES = tuple(STRATA)


@dataclass(frozen=True)
class Provenance:
    """Data, model, knowledge base and parameters of saved analyses.

    Attributes:
        data: name of the mention file.
        data_sha256: hash of that file.
        model: name of the model.
        model_sha256: hash of its weights and settings, without the thresholds, which analyses do not depend on.
        kb: name of the knowledge base.
        kb_sha256: hash of its manifest.
        parameters: of the linker: ``mode``, ``entities``, ``mentions`` and all else that analyses depend on.
        threshold: of the linker; a sweep may replace it.
        mention_threshold: the same, in modes that have one.
        min_mention_log_prob: analyses are complete for thresholds down to this one; None for all thresholds. In JSON "floor".
        seconds: time spent linking.
        execution: how the encoder ran, None in files of earlier versions.
        format: version of the layout.
    """

    data: str
    data_sha256: str
    model: str
    model_sha256: str
    kb: str
    kb_sha256: str
    parameters: dict[str, Any]
    threshold: float | None
    mention_threshold: float | None = None
    min_mention_log_prob: float | None = None
    seconds: float = 0.0
    execution: Execution | None = None
    format: int = FORMAT

    @property
    def mode(self) -> str:
        """Decoding mode of the linker."""
        return str(self.parameters["mode"])

    def to_json(self) -> dict[str, Any]:
        """The JSON object of the metadata; see `from_json`."""
        return {_JSON_KEYS.get(name, name): value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Provenance:
        """Read what `to_json` returns."""
        names = {key: name for name, key in _JSON_KEYS.items()}
        fields = {names.get(key, key): value for key, value in values.items()}
        execution = fields.get("execution")
        return cls(**fields | {"execution": None if execution is None else Execution.from_json(execution)})

    def require(self, path: str | Path, *, of: str = "", **hashes: str) -> None:
        """Check hashes (fields of this class) against those of the files in use.

        Args:
            path: of the analyses, for the message.
            of: path of the file in use, for the message.
            **hashes: expected values.

        Raises:
            MismatchError: a hash differs.
        """
        for name, expected in hashes.items():
            if getattr(self, name) != expected:
                kind = name.removesuffix("_sha256")
                message = f"{path} was made with another {_KINDS[kind]} ({getattr(self, kind)}) than {of or 'the one given'}"
                raise MismatchError(f"{message}, or it has changed since; {_REMEDY}")

    def require_like(self, path: str | Path, other: Provenance, other_path: str | Path) -> None:
        """Check that both have the same model, knowledge base and parameters, without which a threshold is not comparable.

        Raises:
            MismatchError: one of these differs.
        """
        self.require(path, of=str(other_path), model_sha256=other.model_sha256, kb_sha256=other.kb_sha256)
        names = sorted(self.parameters.keys() | other.parameters.keys())
        unlike = [n for n in names if self.parameters.get(n) != other.parameters.get(n)]
        if unlike:
            value, other_value = (p.parameters.get(unlike[0]) for p in (self, other))
            message = f"{path} was made with {unlike[0]} {value!r}, {other_path} with {other_value!r}"
            raise MismatchError(f"{message}; a threshold does not carry over: make both with the same options")


_JSON_KEYS = {"min_mention_log_prob": "floor"}
_KINDS = {"data": "mention file", "model": "model", "kb": "knowledge base"}


@dataclass(frozen=True)
class SavedPredictions:
    """Analyses with their samples.

    Attributes:
        samples: ids, texts and gold; rows are those of the linker's catalogue.
        analyses: one per sample.
        provenance: of the analyses.
        slices: per sample, the strata of its gold mentions; empty if the knowledge base has no alias table.
    """

    samples: Sequence[Sample]
    analyses: Sequence[Analysis]
    provenance: Provenance
    slices: Sequence[SampleStrata] = field(default=())

    @property
    def labelled(self) -> bool:
        """Whether any sample has gold."""
        return any(sample.mentions is not None for sample in self.samples)


def write_predictions(path: str | Path, saved: SavedPredictions) -> None:
    """Write analyses, atomically.

    Raises:
        ShapeError: fields of the spans cannot be concatenated, or the number of analyses is not that of the samples.
    """
    if len(saved.samples) != len(saved.analyses):
        raise ShapeError(f"{len(saved.analyses)} analyses for {len(saved.samples)} samples; give one for each")
    metadata = json.dumps(saved.provenance.to_json(), ensure_ascii=False).encode()
    arrays = {"metadata": np.frombuffer(metadata, dtype=np.uint8)}
    arrays |= _packed("ids", [s.id for s in saved.samples]) | _packed("texts", [s.text for s in saved.samples])
    arrays |= _analysis_arrays(saved.analyses) | _gold_arrays(saved)
    arrays[_DIGEST] = np.frombuffer(bytes.fromhex(hash_of(arrays)), dtype=np.uint8)
    with atomic_open(path, "wb") as f:
        np.savez_compressed(f, **arrays)  # type: ignore[arg-type, unused-ignore]


def _analysis_arrays(analyses: Sequence[Analysis]) -> dict[str, np.ndarray]:
    bounds = [analysis.span_characters() for analysis in analyses]
    return {
        "pieces_at": _starts([len(r.offsets) for r in analyses]),
        "pieces": np.concatenate([np.empty((0, 2), np.int32), *(np.asarray(r.offsets, np.int32) for r in analyses)]),
        "spans_at": _starts([len(r.spans) for r in analyses]),
        "characters": np.array([span for of_text in bounds for span in of_text], dtype=np.int32).reshape(-1, 2),
        **{_SPANS + f.name: column for f in fields(ScoredSpans) if (column := _column(analyses, f.name)) is not None},
    }


def _column(analyses: Sequence[Analysis], name: str) -> np.ndarray | None:
    """A field of all spans, concatenated; None if no spans have it."""
    arrays = [getattr(r.spans, name) for r in analyses if len(r.spans)] or [getattr(r.spans, name) for r in analyses[:1]]
    if all(array is None for array in arrays):
        return None
    if any(array is None or array.dtype.hasobject or array.shape[1:] != arrays[0].shape[1:] for array in arrays):
        raise ShapeError(f"{name!r} of the spans differs in kind from text to text; read all texts with one linker")
    return np.concatenate(arrays)


def _gold_arrays(saved: SavedPredictions) -> dict[str, np.ndarray]:
    gold = [s.mentions or () for s in saved.samples]
    slices = [name for of_sample in saved.slices for name in of_sample] or [None] * sum(map(len, gold))
    return {
        "labelled": np.array([s.mentions is not None for s in saved.samples], dtype=bool),
        "gold_at": _starts([len(mentions) for mentions in gold]),
        "gold": np.array([(m.start, m.end, m.row) for of in gold for m in of], dtype=np.int64).reshape(-1, 3),
        "gold_slices": np.array([-1 if n is None else _SLICE_NAMES.index(n) for n in slices], dtype=np.int8),
        **_packed("gold_ids", [m.kb_id or "" for mentions in gold for m in mentions]),
    }


def read_predictions(path: str | Path) -> SavedPredictions:
    """Read a file of `write_predictions`.

    Raises:
        MissingFileError: there is no such file.
        DataError: it is damaged, or not a file of predictions.
        MismatchError: it was written by another version.
    """
    path = require_file(path, "give predictions written by blink eval FILE --save-preds OUT.npz")
    arrays = read_archive(path, _REMEDY, "predictions")
    digest = arrays.pop(_DIGEST, None)
    try:
        if digest is not None and digest.tobytes().hex() != hash_of(arrays):
            raise ValueError("its arrays are not those that were written")
        _require_arrays(arrays)
        provenance = Provenance.from_json(json.loads(arrays["metadata"].tobytes()))
        if provenance.format != FORMAT or not provenance.mode:
            raise MismatchError(f"{path} is of format {provenance.format}, this version reads {FORMAT}; {_REMEDY}")
        saved = _unpacked_all(arrays, provenance)
        _require_in_range(saved)
        return saved
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise DataError(f"{path} holds no predictions, or is damaged ({type(error).__name__}: {error}); {_REMEDY}") from error


_TEXT, _STARTS = ("u1", ()), ("i8", ())
_LAYOUT: Mapping[str, tuple[str, tuple[int | None, ...]]] = {
    "metadata": _TEXT, "ids": _TEXT, "ids_at": _STARTS, "texts": _TEXT, "texts_at": _STARTS,
    "gold_ids": _TEXT, "gold_ids_at": _STARTS, "gold": ("i8", (3,)), "gold_at": _STARTS, "gold_slices": ("i1", ()),
    "labelled": ("?", ()), "pieces": ("i4", (2,)), "pieces_at": _STARTS, "characters": ("i4", (2,)), "spans_at": _STARTS,
    "spans.start": ("i8", ()), "spans.end": ("i8", ()), "spans.mention_logits": ("f4", ()),
    "spans.rows": ("i8", (None,)), "spans.entity_logits": ("f4", (None,)),
}  # fmt: skip
"""Array -> dtype, and shape without its length; None for any number."""


def _require_arrays(arrays: Arrays) -> None:
    for name, (dtype, columns) in _LAYOUT.items():
        values = arrays[name]
        fits = values.ndim == 1 + len(columns)
        fits = fits and all(n in (None, actual) for n, actual in zip(columns, values.shape[1:], strict=True))
        if values.dtype != dtype or not fits:
            shape = ", ".join("n" if n is None else str(n) for n in ("n", *columns))
            raise ValueError(
                f"{name!r} is an array of {values.dtype} and shape {values.shape}, expected {np.dtype(dtype)}, ({shape})"
            )
    lengths = {len(values) for name, values in arrays.items() if name.startswith(_SPANS)}
    if len(lengths) != 1 or arrays["spans.rows"].shape != arrays["spans.entity_logits"].shape:
        raise ValueError("the arrays of the spans are of different lengths")


def _require_in_range(saved: SavedPredictions) -> None:
    """Check the values: positions within their texts, rows, and scores that are numbers."""
    for sample, analysis in zip(saved.samples, saved.analyses, strict=True):
        offsets, spans = analysis.offsets, analysis.spans
        least, most = (offsets.min(), offsets.max()) if len(offsets) else (0, 0)
        if least < 0 or most > len(sample.text) or (offsets[:, 0] > offsets[:, 1]).any():
            raise ValueError(f"tokens of {sample.id!r} are not in its text")
        if len(spans) and not ((spans.start >= 0) & (spans.start <= spans.end) & (spans.end < len(offsets))).all():
            raise ValueError(f"spans of {sample.id!r} are not in its text")
        if (spans.rows < -1).any() or np.isnan(spans.entity_logits).any() or np.isnan(spans.mention_logits).any():
            raise ValueError(f"candidates of {sample.id!r} have no row, or no score")
        if not all(
            0 <= mention.start <= mention.end <= len(sample.text) and mention.row >= -1 for mention in sample.mentions or ()
        ):
            raise ValueError(f"gold of {sample.id!r} is not in its text")
    provenance = saved.provenance
    numbers = (provenance.threshold, provenance.mention_threshold, provenance.min_mention_log_prob, provenance.seconds)
    if not all(value is None or isinstance(value, int | float) for value in numbers) or provenance.mode not in MODES:
        raise ValueError("its thresholds or its mode are none")


def _unpacked_all(arrays: Arrays, provenance: Provenance) -> SavedPredictions:
    samples = list(_samples(arrays))
    spans = {f.name: arrays[_SPANS + f.name] for f in fields(ScoredSpans) if _SPANS + f.name in arrays}
    unknown = [name for name in arrays if name.startswith(_SPANS) and name.removeprefix(_SPANS) not in spans]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is not a field that this version knows")
    token_slices = _slices_between(arrays["pieces_at"], len(arrays["pieces"]), len(samples))
    span_slices = _slices_between(arrays["spans_at"], len(spans["start"]), len(samples))
    analyses = [
        Analysis(
            sample.text,
            arrays["pieces"][token_slice],
            ScoredSpans(**{name: column[span_slice] for name, column in spans.items()}),
        )
        for sample, token_slice, span_slice in zip(samples, token_slices, span_slices, strict=True)
    ]
    return SavedPredictions(samples, analyses, provenance, _slices(arrays, len(samples)))


def _samples(arrays: Arrays) -> Iterator[Sample]:
    ids, texts, gold_ids = (_unpacked(arrays, name) for name in ("ids", "texts", "gold_ids"))
    gold, labelled = arrays["gold"].tolist(), arrays["labelled"].tolist()
    mentions = [Mention(s, e, row, kb_id or None) for (s, e, row), kb_id in zip(gold, gold_ids, strict=True)]
    gold_slices = _slices_between(arrays["gold_at"], len(gold), len(ids))
    for name, text, gold_slice, has_gold in zip(ids, texts, gold_slices, labelled, strict=True):
        yield Sample(name, text, tuple(mentions[gold_slice]) if has_gold else None)


def _slices(arrays: Arrays, samples: int) -> list[SampleStrata]:
    codes = arrays["gold_slices"].tolist()
    if all(code < 0 for code in codes):
        return []
    names = [None if code < 0 else _SLICE_NAMES[code] for code in codes]
    return [tuple(names[gold_slice]) for gold_slice in _slices_between(arrays["gold_at"], len(names), samples)]


def _packed(name: str, strings: Sequence[str]) -> dict[str, np.ndarray]:
    encoded = [s.encode() for s in strings]
    return {
        name: np.frombuffer(b"".join(encoded), dtype=np.uint8),
        f"{name}_at": _starts([len(e) for e in encoded]),
    }


def _unpacked(arrays: Arrays, name: str) -> list[str]:
    data, starts = arrays[name].tobytes(), arrays[f"{name}_at"]
    return [data[chunk].decode() for chunk in _slices_between(starts, len(data), len(starts) - 1)]


def _starts(lengths: Sequence[int]) -> np.ndarray:
    return np.cumsum([0, *lengths], dtype=np.int64)


def _slices_between(starts: np.ndarray, total: int, count: int) -> list[slice]:
    """The slices between consecutive starts; raises if they are not ``count`` or do not cover ``total``."""
    values = starts.tolist()
    if len(values) != count + 1 or values[0] != 0 or values[-1] != total or values != sorted(values):
        raise ValueError("offsets do not fit the array")
    return [slice(*pair) for pair in pairwise(values)]


_WITHOUT_EFFECT = ("threshold", "cutoff", "base", BASE_FOLDER, HAS_RERANKER)
"""Settings of a model that no analysis depends on; of the encoder that it adapts the hash counts, not where it is."""
_MODEL_FILES = {".json", ".safetensors", ".bin", ".npz", ".npy", ".txt"}


def model_hash(model: str | Path) -> str:
    """Hash of all files of a model's folder that analyses depend on; for a model that is not a folder, of its name.

    The thresholds in its settings are excluded: setting one after a sweep must not invalidate the analyses.
    """
    digest = hashlib.sha256()
    folder = Path(model)
    if not folder.is_dir():
        digest.update(str(model).encode())
    for file in sorted(f for f in folder.glob("*") if f.suffix in _MODEL_FILES and f.name != CHECKSUMS_FILE):
        digest.update(f"{file.name} {_settings_hash(file) or sample_hash(file)} ".encode())
    return digest.hexdigest()


def _settings_hash(file: Path) -> str | None:
    if file.name != "config.json":
        return None
    try:
        values = json.loads(read_bytes(file).decode("utf-8"))
    except ValueError:
        return None
    counted = {k: v for k, v in values.items() if k not in _WITHOUT_EFFECT} if isinstance(values, dict) else values
    return hashlib.sha256(json.dumps(counted, sort_keys=True).encode()).hexdigest()


def finite_or_none(value: float | None) -> float | None:
    """The value, or None for infinity and NaN, which JSON lacks."""
    return value if value is not None and math.isfinite(value) else None


def kb_hash(kb: str | Path) -> str:
    """Hash of a knowledge base's manifest, which holds the hashes of the other files, and of its journal if there is one.

    Raises:
        MissingFileError: the folder is not a knowledge base.
    """
    journal = Path(kb) / read_manifest(Path(kb)).folder / JOURNAL_FILE
    manifest = sha256(Path(kb) / MANIFEST_FILE)
    return hashlib.sha256((manifest + sha256(journal)).encode()).hexdigest() if journal.is_file() else manifest
