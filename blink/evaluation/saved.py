"""The analyses of a run in one file, so that thresholds can be tried later, without the model.

The file is an ``.npz`` of plain arrays; ragged lists lie end to end, and the array named ``X_at`` says where each part of
``X`` begins (one more number than parts).

| array | shape | meaning |
| --- | --- | --- |
| ``metadata`` | (bytes,) | JSON: `Provenance` |
| ``ids``, ``texts`` | (bytes,) | UTF-8, a part for each text |
| ``pieces`` | (pieces, 2) | characters ``[start, end)`` of the word pieces, a part for each text |
| ``spans_at`` | (texts + 1,) | which spans are whose |
| ``spans.NAME`` | (m, ...) | an array for each field of `ScoredSpans`; positions count the text's pieces |
| ``characters`` | (m, 2) | characters ``[start, end)`` of each span, for other programs |
| ``labelled`` | (texts,) | whether a text has gold |
| ``gold`` | (g, 3) | start, end, catalogue row or -1, a part for each text |
| ``gold_ids`` | (bytes,) | UTF-8, the Wikidata id of each gold mention, or nothing |
| ``gold_slices`` | (g,) | place in `STRATA`, or -1 |
"""

from __future__ import annotations

import hashlib
import json
import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from blink.data.records import Mention, Sample
from blink.errors import DataError, MismatchError, ShapeError
from blink.evaluation.strata import STRATA, SampleStrata
from blink.files import atomic_open, require_file, sample_hash, sha256
from blink.kb.knowledge_base import MANIFEST_FILE, read_manifest
from blink.linking.analysis import Analysis
from blink.linking.scoring import ScoredSpans

FORMAT = 1
FILE_NAME = "predictions.npz"
Arrays: TypeAlias = Mapping[str, np.ndarray]
_SPANS = "spans."
_REMEDY = "write it again: blink eval FILE --save-preds OUT.npz"
_SLICE_NAMES = tuple(STRATA)


@dataclass(frozen=True)
class Provenance:
    """What analyses were made from, and how.

    Attributes:
        data: name of the mention file.
        data_sha256: its hash.
        model: name of the model.
        model_sha256: hash of its weights and its settings, but for the cuts, which analyses do not depend on.
        kb: name of the knowledge base.
        kb_sha256: hash of its manifest.
        parameters: of the linker: ``mode``, ``entities``, ``mentions`` and whatever else decides what is read.
        threshold: the linker's own, which may be replaced.
        mention_threshold: the same, where the mode has one.
        floor: analyses are complete for thresholds down to this one; None for any.
        seconds: spent linking.
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
    floor: float | None = None
    seconds: float = 0.0
    format: int = FORMAT

    @property
    def mode(self) -> str:
        """How the linker chose."""
        return str(self.parameters["mode"])

    def require(self, path: str | Path, *, of: str = "", **hashes: str) -> None:
        """Check hashes (fields of this class) of what stands beside the file now.

        Args:
            path: of the analyses, for the message.
            of: where what stands beside it comes from, for the message.
            **hashes: what each should be.

        Raises:
            MismatchError: one is another.
        """
        for name, wanted in hashes.items():
            if getattr(self, name) != wanted:
                kind = name.removesuffix("_sha256")
                found = f"{path} was made with another {_KINDS[kind]} ({getattr(self, kind)}) than {of or 'the one given'}"
                raise MismatchError(f"{found}, or it has changed since; {_REMEDY}")

    def require_like(self, path: str | Path, other: Provenance, other_path: str | Path) -> None:
        """Check that both were made by one model, knowledge base and set of parameters: thresholds do not carry over else.

        Raises:
            MismatchError: they were not.
        """
        self.require(path, of=str(other_path), model_sha256=other.model_sha256, kb_sha256=other.kb_sha256)
        names = sorted(self.parameters.keys() | other.parameters.keys())
        unlike = [n for n in names if self.parameters.get(n) != other.parameters.get(n)]
        if unlike:
            mine, theirs = (p.parameters.get(unlike[0]) for p in (self, other))
            found = f"{path} was made with {unlike[0]} {mine!r}, {other_path} with {theirs!r}"
            raise MismatchError(f"{found}; a threshold does not carry over: make both with the same options")


_KINDS = {"data": "mention file", "model": "model", "kb": "knowledge base"}


@dataclass(frozen=True)
class SavedPredictions:
    """Readings with the samples they belong to.

    Attributes:
        samples: ids, texts and gold; rows are those of the catalogue that was linked to.
        analyses: one for each sample.
        provenance: what they were made from.
        slices: for each sample, the slices of its gold mentions; empty where the knowledge base has no surface forms.
    """

    samples: Sequence[Sample]
    analyses: Sequence[Analysis]
    provenance: Provenance
    slices: Sequence[SampleStrata] = field(default=())

    @property
    def labelled(self) -> bool:
        """Whether there is gold to compare with."""
        return any(sample.mentions is not None for sample in self.samples)


def write_predictions(path: str | Path, saved: SavedPredictions) -> None:
    """Write analyses, atomically.

    Raises:
        ShapeError: fields of the spans cannot be laid end to end, or there are not as many analyses as samples.
    """
    if len(saved.samples) != len(saved.analyses):
        raise ShapeError(f"{len(saved.analyses)} analyses for {len(saved.samples)} samples; give one for each")
    metadata = json.dumps(asdict(saved.provenance), ensure_ascii=False).encode()
    arrays = {"metadata": np.frombuffer(metadata, dtype=np.uint8)}
    arrays |= _packed("ids", [s.id for s in saved.samples]) | _packed("texts", [s.text for s in saved.samples])
    arrays |= _analysis_arrays(saved.analyses) | _gold_arrays(saved)
    with atomic_open(path, "wb") as f:
        np.savez_compressed(f, **arrays)  # type: ignore[arg-type, unused-ignore]


def _analysis_arrays(analyses: Sequence[Analysis]) -> dict[str, np.ndarray]:
    bounds = [analysis.span_characters() for analysis in analyses]
    return {
        "pieces_at": _starts([len(r.offsets) for r in analyses]),
        "pieces": np.concatenate([np.empty((0, 2), np.int32), *(np.asarray(r.offsets, np.int32) for r in analyses)]),
        "spans_at": _starts([len(r.spans) for r in analyses]),
        "characters": np.array([at for of_text in bounds for at in of_text], dtype=np.int32).reshape(-1, 2),
        **{_SPANS + f.name: column for f in fields(ScoredSpans) if (column := _column(analyses, f.name)) is not None},
    }


def _column(analyses: Sequence[Analysis], name: str) -> np.ndarray | None:
    """A field of all spans, end to end; None if no spans have it. Which fields there are is `ScoredSpans`' affair."""
    parts = [getattr(r.spans, name) for r in analyses if len(r.spans)] or [getattr(r.spans, name) for r in analyses[:1]]
    if all(part is None for part in parts):
        return None
    if any(part is None or part.dtype.hasobject or part.shape[1:] != parts[0].shape[1:] for part in parts):
        raise ShapeError(f"{name!r} of the spans differs in kind from text to text; read all texts with one linker")
    return np.concatenate(parts)


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
    """Read what `write_predictions` wrote.

    Raises:
        MissingFileError: there is no such file.
        DataError: it is damaged, or no such file.
        MismatchError: it was written by another version.
    """
    path = require_file(path, "give readings written by blink eval FILE --save-preds OUT.npz")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        provenance = Provenance(**json.loads(arrays["metadata"].tobytes()))
        if provenance.format != FORMAT or not provenance.mode:
            raise MismatchError(f"{path} is of format {provenance.format}, this version reads {FORMAT}; {_REMEDY}")
        return _unpacked_all(arrays, provenance)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} holds no readings, or is damaged ({type(error).__name__}: {error}); {_REMEDY}") from error


def _unpacked_all(arrays: Arrays, provenance: Provenance) -> SavedPredictions:
    samples = list(_samples(arrays))
    spans = {f.name: arrays[_SPANS + f.name] for f in fields(ScoredSpans) if _SPANS + f.name in arrays}
    unknown = [name for name in arrays if name.startswith(_SPANS) and name.removeprefix(_SPANS) not in spans]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is nothing that this version knows")
    pieces = _parts(arrays["pieces_at"], len(arrays["pieces"]), len(samples))
    places = _parts(arrays["spans_at"], len(spans["start"]), len(samples))
    analyses = [
        Analysis(sample.text, arrays["pieces"][piece], ScoredSpans(**{name: column[place] for name, column in spans.items()}))
        for sample, piece, place in zip(samples, pieces, places, strict=True)
    ]
    return SavedPredictions(samples, analyses, provenance, _slices(arrays, len(samples)))


def _samples(arrays: Arrays) -> Iterator[Sample]:
    ids, texts, gold_ids = (_unpacked(arrays, name) for name in ("ids", "texts", "gold_ids"))
    gold, labelled = arrays["gold"].tolist(), arrays["labelled"].tolist()
    mentions = [Mention(s, e, row, kb_id or None) for (s, e, row), kb_id in zip(gold, gold_ids, strict=True)]
    parts = _parts(arrays["gold_at"], len(gold), len(ids))
    for name, text, part, known in zip(ids, texts, parts, labelled, strict=True):
        yield Sample(name, text, tuple(mentions[part]) if known else None)


def _slices(arrays: Arrays, samples: int) -> list[SampleStrata]:
    codes = arrays["gold_slices"].tolist()
    if all(code < 0 for code in codes):
        return []
    names = [None if code < 0 else _SLICE_NAMES[code] for code in codes]
    return [tuple(names[part]) for part in _parts(arrays["gold_at"], len(names), samples)]


def _packed(name: str, strings: Sequence[str]) -> dict[str, np.ndarray]:
    encoded = [s.encode() for s in strings]
    return {
        name: np.frombuffer(b"".join(encoded), dtype=np.uint8),
        f"{name}_at": _starts([len(e) for e in encoded]),
    }


def _unpacked(arrays: Arrays, name: str) -> list[str]:
    data, starts = arrays[name].tobytes(), arrays[f"{name}_at"]
    return [data[part].decode() for part in _parts(starts, len(data), len(starts) - 1)]


def _starts(lengths: Sequence[int]) -> np.ndarray:
    return np.cumsum([0, *lengths], dtype=np.int64)


def _parts(starts: np.ndarray, total: int, parts: int) -> list[slice]:
    """The slices between neighbouring starts, which must be so many and cover everything."""
    values = starts.tolist()
    if len(values) != parts + 1 or values[0] != 0 or values[-1] != total or values != sorted(values):
        raise ValueError("its parts do not fit each other")
    return [slice(*pair) for pair in pairwise(values)]


_CUTS = ("threshold", "cutoff")
_MODEL_FILES = {".json", ".safetensors", ".bin", ".npz", ".npy", ".txt"}


def model_hash(model: str | Path) -> str:
    """Hash of everything in a model's folder that decides what is read; of what is no folder, of its name.

    The cuts among its settings are left out: choosing one from analyses must not make them stale.
    """
    digest = hashlib.sha256()
    folder = Path(model)
    if not folder.is_dir():
        digest.update(str(model).encode())
    for file in sorted(f for f in folder.glob("*") if f.suffix in _MODEL_FILES):
        digest.update(f"{file.name} {_settings_hash(file) or sample_hash(file)} ".encode())
    return digest.hexdigest()


def _settings_hash(file: Path) -> str | None:
    if file.name != "config.json":
        return None
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return None
    kept = {k: v for k, v in values.items() if k not in _CUTS} if isinstance(values, dict) else values
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def finite_or_none(value: float | None) -> float | None:
    """JSON has no infinity."""
    return value if value is not None and math.isfinite(value) else None


def kb_hash(kb: str | Path) -> str:
    """Hash of a knowledge base's manifest, which holds the hashes of its parts.

    Raises:
        MissingFileError: it is no knowledge base.
    """
    read_manifest(Path(kb))
    return sha256(Path(kb) / MANIFEST_FILE)
