"""File format of graph priors: features of entities from a knowledge graph, and their weights relative to a model's scores.

The file is a safetensors file. It is computed from a graph without a model (`blink.kglm.prior_table`); weights are added later,
one set per scorer. A linker aligns it with a knowledge base by the ids of entities, not by rows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from blink.data.arrays import hash_of
from blink.errors import DataError, MismatchError
from blink.files import atomic_open, require_file
from blink.input_files import utf8_path

FORMAT = 1
NO_PRIOR = "none"
"""Name that stands for no prior, instead of a file."""
TERMS = ("popularity", "vector", "coherence")
"""What a prior adds to the scores of a model."""
RELATEDNESS = ("neighbours", "cosine", "plausibility")
"""Measures of the relatedness of two entities; see `blink.linking.coherence`."""
LAYOUTS = ("real", "re_im")
"""Layouts of relation vectors: real, or real and imaginary halves."""
_REMEDY = "give a file that `blink kglm prior` wrote"


@dataclass(frozen=True)
class Relations:
    """Relation vectors, for the plausibility of "these two entities are related".

    Attributes:
        vectors: one per relation. *Shape:* (relations, d), float32.
        bias: score that 0.1 % of random pairs of entities exceed. *Shape:* (relations,), float32.
        spread: standard deviation of the scores of random pairs. *Shape:* (relations,), float32.
        layout: ``real`` (DistMult) or ``re_im`` (ComplEx).
    """

    vectors: np.ndarray
    bias: np.ndarray
    spread: np.ndarray
    layout: str


def multiplied(heads: np.ndarray, relation: np.ndarray, layout: str) -> np.ndarray:
    """Vectors whose inner product with a tail is the score of the triple, see `Relations`. *Shape:* that of ``heads``."""
    if layout == "real":
        return heads * relation
    (a, b), (c, d) = np.split(heads, 2, axis=-1), np.split(relation, 2, axis=-1)
    return np.concatenate([a * c - b * d, a * d + b * c], axis=-1)


@dataclass(frozen=True)
class PriorTable:
    """Features of entities from a knowledge graph.

    Attributes:
        ids: of the entities, without duplicates.
        degrees: number of training triples of each entity. *Shape:* (n,), int64.
        edges: sorted, distinct pairs of entities with a triple, the smaller index first. *Shape:* (edges, 2), int32.
        vectors: learned entity vectors; zeros for an entity without one. *Shape:* (n, d), float32.
        relations: relation vectors, if the entity vectors are those of a multiplicative model.
        about: provenance: hashes, names, counts.
        triples: heads, relations and tails by index; None in files of earlier versions. *Shape:* (triples, 3), int32.
    """

    ids: tuple[str, ...]
    degrees: np.ndarray
    edges: np.ndarray
    vectors: np.ndarray | None = None
    relations: Relations | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    triples: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def directions(self) -> np.ndarray:
        """The vectors, centred and normalized; zeros stay zeros. *Shape:* (n, d), float32; (n, 0) without vectors."""
        if self.vectors is None:
            return np.zeros((len(self), 0), dtype=np.float32)
        has_vector = self.vectors.any(axis=1, keepdims=True)
        if not has_vector.any():
            return np.zeros_like(self.vectors)
        centred = np.where(has_vector, self.vectors - self.vectors.mean(0, where=has_vector), 0)
        lengths = np.linalg.norm(centred, axis=1, keepdims=True)
        return (centred / np.where(lengths > 0, lengths, 1)).astype(np.float32)


@dataclass(frozen=True)
class PriorWeights:
    """Weights of a prior for one scorer, see `blink.linking.graph_prior` for the formula.

    Attributes:
        scores: fingerprint of the scorer, see `blink.linking.graph_prior.scorer_fingerprint`.
        ranked: whether the scores are a reranker's log-odds, or a bi-encoder's inner products.
        scale, shift: of the scores.
        popularity: weight of log(1 + degree).
        vector: weight of the agreement of mention and graph vector.
        coherence: weight of the agreement among the mentions of a text.
        relatedness: one of `RELATEDNESS`.
        cutoff: default threshold of links.
        text: projection of mention vectors. *Shape:* (r, d_text), float32; r = 0 if vectors are not used.
        graph: projection of graph vectors. *Shape:* (r, d), float32.
        gate: weights of the gate, whose logit is ``gate`` times the graph vector plus ``gate_bias``. *Shape:* (d,), float32.
        about: data and results of the fit.
    """

    scores: str
    ranked: bool
    scale: float = 1.0
    shift: float = 0.0
    popularity: float = 0.0
    vector: float = 0.0
    coherence: float = 0.0
    relatedness: str = "neighbours"
    cutoff: float = 0.0
    gate_bias: float = 0.0
    text: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    graph: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    gate: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Prior:
    """A table and its sets of weights."""

    table: PriorTable
    weights: tuple[PriorWeights, ...] = ()

    def weights_for_scorer(self, scores: str) -> PriorWeights | None:
        """The weights for a scorer's fingerprint; None if the prior has none."""
        return next((w for w in self.weights if w.scores == scores), None)

    def with_weights(self, weights: PriorWeights) -> Prior:
        """The prior with these weights, which replace any for the same scorer."""
        return replace(self, weights=(*(w for w in self.weights if w.scores != weights.scores), weights))


_ARRAYS = ("text", "graph", "gate")
_TABLE = ("degrees", "edges", "vectors", "triples")
_RELATIONS = ("vectors", "bias", "spread")
_NUMBERS = ("shift", "popularity", "vector", "coherence", "cutoff", "gate_bias")
_HALF = ("vectors", "relations.vectors")
"""Arrays that are stored as float16, and converted to float32 when read."""


def write_prior(path: str | Path, prior: Prior) -> None:
    """Write a prior, atomically.

    Raises:
        DataError: its vectors hold values that are not finite in float16.
    """
    table = prior.table
    tensors: dict[str, np.ndarray] = {"ids": _packed(table.ids)}
    tensors |= {name: value for name in _TABLE if (value := getattr(table, name)) is not None}
    if table.relations is not None:
        tensors |= {f"relations.{name}": getattr(table.relations, name) for name in _RELATIONS}
    for i, weights in enumerate(prior.weights):
        tensors |= {f"weights.{i}.{name}": getattr(weights, name) for name in _ARRAYS}
    with np.errstate(over="ignore"):
        stored = {name: value.astype(np.float16) if name in _HALF else value for name, value in tensors.items()}
    for name in _HALF:
        if name in stored and not np.isfinite(stored[name]).all():
            raise DataError(
                f"the {name} of the prior hold numbers that are not finite, or above 65,504; train or scale them again"
            )
    about = {
        "format": FORMAT,
        "about": dict(table.about),
        "layout": None if table.relations is None else table.relations.layout,
        "weights": [_plain(w) for w in prior.weights],
    }
    about["sha256"] = _hash(about, stored)
    with atomic_open(path, "wb") as f:
        save_file({k: np.ascontiguousarray(v) for k, v in stored.items()}, f.name, {"prior": json.dumps(about)})


def read_prior(path: str | Path) -> Prior:
    """Read a prior.

    Raises:
        MissingFileError: there is no such file.
        DataError: it is not a prior, or is damaged.
        MismatchError: it is of another version, or its arrays do not belong together.
    """
    path = require_file(path, _REMEDY)
    try:
        with safe_open(utf8_path(path), framework="np") as f:
            about = json.loads((f.metadata() or {})["prior"])
            tensors = {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118 - no mapping
        if about["format"] != FORMAT:
            raise MismatchError(f"{path} is a prior of version {about['format']}, this is version {FORMAT}; make it again")
        if about.pop("sha256", digest := _hash(about, tensors)) != digest:
            raise ValueError("it is not what was written")
        _require_types(tensors)
        return _checked(path, _assembled(about, tensors))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is no prior, or is damaged ({error}); {_REMEDY}") from error


def _hash(about: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> str:
    """Hash of all that a file holds; files of earlier versions have none."""
    content = json.dumps({key: value for key, value in about.items() if key != "sha256"}, sort_keys=True)
    return hash_of({**tensors, "": np.frombuffer(content.encode(), np.uint8)})


def _require_types(tensors: Mapping[str, np.ndarray]) -> None:
    for name, values in tensors.items():
        kinds = "iu" if name in ("ids", "degrees", "edges", "triples") else "f"
        if values.dtype.kind not in kinds or (kinds == "f" and not np.isfinite(values).all()):
            raise ValueError(f"its {name} are {values.dtype}, or not finite")
    if tensors["ids"].dtype != np.uint8:
        raise ValueError("its ids are no text")


def _assembled(about: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> Prior:
    full = {name: value.astype(np.float32) if name in _HALF else value for name, value in tensors.items()}
    relations = None
    if about["layout"] is not None:
        of_relations = [full[f"relations.{name}"] for name in _RELATIONS]
        relations = Relations(of_relations[0], of_relations[1], of_relations[2], str(about["layout"]))
    ids, optional = tuple(_unpacked(full["ids"])), {name: full.get(name) for name in ("vectors", "triples")}
    table = PriorTable(ids, full["degrees"], full["edges"], relations=relations, about=about["about"], **optional)
    weights = []
    for i, values in enumerate(about["weights"]):
        arrays: dict[str, Any] = {name: full[f"weights.{i}.{name}"] for name in _ARRAYS}
        weights.append(PriorWeights(**values, **arrays))
    return Prior(table, tuple(weights))


def _checked(path: Path, prior: Prior) -> Prior:
    table, n = prior.table, len(prior.table)
    for problem in _problems(table, n, prior.weights):
        raise MismatchError(f"{path}: {problem}; make it again: blink kglm prior")
    return prior


def _problems(table: PriorTable, n: int, weights: Sequence[PriorWeights]) -> Iterator[str]:
    if len(set(table.ids)) != n:
        yield f"{n:,} ids, {len(set(table.ids)):,} of them different"
    width = 0 if table.vectors is None else table.vectors.shape[-1]
    for name, value, shape in (("degrees", table.degrees, (n,)), ("vectors", table.vectors, (n, width))):
        if value is not None and value.shape != shape:
            yield f"{name} of shape {value.shape} for {n:,} entities"
    if table.degrees.min(initial=0) < 0:
        yield "a degree below 0"
    for name, pairs, width_of_row in (("edges", table.edges, 2), ("triples", table.triples, 3)):
        if pairs is None:
            continue
        ends = pairs[:, [0, -1]] if pairs.ndim == 2 and pairs.shape[1] == width_of_row else None
        if ends is None or (len(ends) and (pairs.min() < 0 or ends.max() >= n)):
            yield f"{name} of shape {pairs.shape} that do not fit {n:,} entities"
    if table.relations is not None:
        yield from _relation_problems(table.relations, width)
    for weights_of_scorer in weights:
        yield from _weight_problems(weights_of_scorer, width)


def _relation_problems(relations: Relations, width: int) -> Iterator[str]:
    shapes = [relations.vectors.shape, relations.bias.shape, relations.spread.shape]
    n = len(relations.vectors)
    if shapes != [(n, width), (n,), (n,)]:
        yield f"relation vectors, biases and spreads of shapes {shapes} for {width}-dimensional vectors"
    if relations.layout not in LAYOUTS or (relations.layout == "re_im" and width % 2):
        yield f"relation vectors of layout {relations.layout!r} and dimension {width}; layouts are {', '.join(LAYOUTS)}"


def _weight_problems(weights: PriorWeights, width: int) -> Iterator[str]:
    wide = len(weights.text) or weights.vector
    if any(getattr(weights, name).ndim != 2 for name in ("text", "graph")) or weights.gate.ndim != 1:
        yield "weights that are not matrices"
    elif len(weights.graph) != len(weights.text) or (wide and not weights.graph.shape[1] == len(weights.gate) == width):
        yield f"weights for {weights.graph.shape[1]}-dimensional vectors, it has vectors of dimension {width}"
    if weights.relatedness not in RELATEDNESS:
        yield f"relatedness {weights.relatedness!r}; allowed are {', '.join(RELATEDNESS)}"
    if not 0 < weights.scale < math.inf:
        yield f"a scale of {weights.scale}, which must be a number above 0"
    for name, value in _plain(weights).items():
        if name in _NUMBERS and not math.isfinite(value):
            yield f"a weight {name} of {value}"


def _plain(weights: PriorWeights) -> dict[str, Any]:
    return {f.name: getattr(weights, f.name) for f in fields(weights) if f.name not in _ARRAYS}


def _packed(ids: Sequence[str]) -> np.ndarray:
    return np.frombuffer(json.dumps(list(ids), ensure_ascii=False).encode(), dtype=np.uint8)


def _unpacked(ids: np.ndarray) -> list[str]:
    names = json.loads(ids.tobytes().decode("utf-8"))
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TypeError("its ids are no list of texts")
    return names
