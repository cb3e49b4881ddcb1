"""Knowledge bases of any size for `benchmarks/scale.py`: real entity vectors, perturbed, in 1024 dimensions; real mentions.

An entity of row r is a perturbed copy of a real entity. Its vector is

    normalise(x + t * (sqrt(1 - f) * d + sqrt(f) * g)),    t uniform in STRENGTH, f = ISOTROPIC

where x is the vector of a real entity, mapped to 1024 dimensions by an orthonormal matrix, d the direction between two
other real entities, and g a Gaussian vector of expected length 1. The differences d keep the spectrum of real vectors, g gives
full rank. Every copy rivals the others. STRENGTH is such that an entity is about as close to its nearest as real ones would be,
extrapolated by their number: each doubling up to 97,081 real entities adds .03 to the median cosine. Rows follow from the seed
and their block alone, so that a small knowledge base is the beginning of a larger one, and blocks can be made again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from blink.data.records import Entity

DIM = 1024
BLOCK = 4096
"""Rows that share a random generator."""
STRENGTH = (0.35, 1.0)
"""Size of the perturbation, relative to a vector of length 1."""
ISOTROPIC = 0.5
"""Share of the perturbation's energy that is alike in all 1024 dimensions."""
TEXT_CHARACTERS = 80


def orthonormal_map(dim: int, seed: int) -> np.ndarray:
    """A matrix that keeps inner products. *Shape:* (dim, DIM), float32."""
    gaussian = np.random.default_rng([seed, dim]).standard_normal((DIM, dim))
    return np.ascontiguousarray(np.linalg.qr(gaussian)[0].T, dtype=np.float32)


@dataclass(frozen=True)
class VectorGenerator:
    """Vectors of any row.

    Attributes:
        real: vectors of real entities in a random order. *Shape:* (real entities, DIM), float32, of length 1.
        seed: of all randomness.
    """

    real: np.ndarray
    seed: int

    @classmethod
    def from_real(cls, vectors: np.ndarray, seed: int) -> VectorGenerator:
        """Map real vectors. *Shape:* (n, d)."""
        order = source_order(len(vectors), seed)
        return cls(vectors[order].astype(np.float32) @ orthonormal_map(vectors.shape[1], seed), seed)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Vectors of rows ``[start, stop)``. *Shape:* (stop - start, DIM), float32."""
        first, last = start // BLOCK, -(-stop // BLOCK)
        blocks = [self._block(number) for number in range(first, last)]
        offset = first * BLOCK
        return np.concatenate(blocks)[start - offset : stop - offset] if blocks else np.empty((0, DIM), np.float32)

    def _block(self, number: int) -> np.ndarray:
        rng = np.random.default_rng([self.seed, 1, number])
        rows = np.arange(number * BLOCK, (number + 1) * BLOCK) % len(self.real)
        one, other = rng.integers(len(self.real), size=(2, BLOCK))
        other += one == other
        direction = self.real[one] - self.real[other % len(self.real)]
        lengths = np.linalg.norm(direction, axis=1, keepdims=True)  # 0 where two real entities have the same vector
        direction *= (np.sqrt(1 - ISOTROPIC) / np.maximum(lengths, 1e-3)).astype(np.float32)
        noise = rng.standard_normal((BLOCK, DIM), dtype=np.float32)
        noise *= np.float32(np.sqrt(ISOTROPIC / DIM))
        direction += noise
        direction *= rng.uniform(*STRENGTH, (BLOCK, 1)).astype(np.float32)
        direction += self.real[rows]
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        return direction


def source_order(entities: int, seed: int) -> np.ndarray:
    """Which real entity the rows copy, repeated from the beginning for more rows. *Shape:* (entities,), int64."""
    return np.random.default_rng([seed, 0]).permutation(entities)


def catalogue_lines(real: Sequence[Entity], rows: int, seed: int) -> Iterator[str]:
    """Lines of an ``entity.jsonl``. The first copies keep the names of their entities; later ones mix the words of two."""
    rng = np.random.default_rng([seed, 2])
    ordered = [real[i] for i in source_order(len(real), seed)]
    words = [entity.title.split() or ["?"] for entity in ordered]
    for start in range(0, rows, len(ordered)):
        others = rng.integers(len(ordered), size=len(ordered)).tolist()
        kinds = rng.random(len(ordered)).tolist()
        for i, (other, kind) in enumerate(zip(others, kinds, strict=True)):
            row = start + i
            if row == rows:
                return
            entity = ordered[i]
            if not start:
                names: dict[str, Any] = {"title": entity.title, "aliases": list(entity.aliases), "kb_idx": entity.kb_id}
            else:
                names = {**_mixed_names(words[i], words[other], kind), "kb_idx": f"Q{200_000_000 + row}"}
            yield json.dumps({**names, "text": entity.text[:TEXT_CHARACTERS]}, ensure_ascii=False) + "\n"


def _mixed_names(one: list[str], other: list[str], kind: float) -> dict[str, Any]:
    """A title of the words of two titles, for one in five in brackets, and for one in three an alias."""
    head, tail = one[: max(1, len(one) - 1)], other[-max(1, len(other) - 1) :]
    if kind < 0.2:
        return {"title": f"{' '.join(one)} ({other[-1]})"}
    title = " ".join([*head, *tail])
    return {"title": title, "aliases": [f"{head[0]} {tail[-1]}"]} if kind < 0.53 else {"title": title}


def exact_neighbours(
    vectors: np.ndarray,
    queries: np.ndarray,
    sizes: Sequence[int],
    k: int = 10,
    *,
    block: int = 16_384,
    report: Callable[[int], None] = lambda rows: None,
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """The k best rows among the first n vectors, for each n of ``sizes``, from one pass in float32.

    Args:
        vectors: *Shape:* (entities, d), of any float dtype; may be a memory map.
        queries: *Shape:* (m, d), float32.
        sizes: ascending, at most the number of vectors, at least k.
        k: neighbours of a query.
        block: vectors multiplied at a time.
        report: called with the number of vectors that are searched.

    Yields:
        n, scores and rows, best first. *Shape:* (m, k) each.
    """
    scores = np.full((len(queries), k), -np.inf, np.float32)
    rows = np.full((len(queries), k), -1, np.int64)
    start = 0
    for size in sizes:
        while start < size:
            stop = min(start + block, size)
            products = queries @ vectors[start:stop].astype(np.float32).T
            better = products > scores[:, -1:]
            for i in np.flatnonzero(better.any(axis=1)):
                columns = np.flatnonzero(better[i])
                merged = np.concatenate([scores[i], products[i, columns]])
                best = np.argsort(-merged, kind="stable")[:k]
                rows[i], scores[i] = np.concatenate([rows[i], columns + start])[best], merged[best]
            start = stop
            report(start)
        yield size, scores.copy(), rows.copy()


def write_vectors(path: Path, generator: VectorGenerator, rows: int, report: Callable[[int], None]) -> None:
    """Write the vectors of rows ``[0, rows)`` in float16; a file of a killed run is continued.

    Args:
        path: of the ``.npy`` file. Until it is complete, its rows are in ``PATH.part``.
        generator: of the vectors.
        rows: number of vectors.
        report: called with the number of rows that are written.
    """
    part = path.with_name(f"{path.name}.part")
    with part.open("r+b" if part.exists() else "w+b") as f:
        np.lib.format.write_array_header_1_0(f, {"descr": "<f2", "fortran_order": False, "shape": (rows, DIM)})
        begin, size = f.tell(), part.stat().st_size
        first = max(0, size - begin) // (2 * DIM * BLOCK) * BLOCK
        f.seek(begin + 2 * DIM * first)
        f.truncate()
        for start in range(first, rows, BLOCK):
            stop = min(start + BLOCK, rows)
            f.write(generator.rows(start, stop).astype(np.float16).tobytes())
            report(stop)
    part.replace(path)


def read_vectors(path: Path, rows: np.ndarray) -> np.ndarray:
    """Neighbouring rows, read and not mapped: mapped pages count as memory. *Shape:* (m,) gives (m, DIM)."""
    first, count = int(rows.min()), int(rows.max() - rows.min()) + 1
    begin = path.stat().st_size - 2 * DIM * len(np.load(path, mmap_mode="r"))
    block = np.fromfile(path, np.float16, count * DIM, offset=begin + 2 * DIM * first).reshape(count, DIM)
    return block[rows - first]


def mention_vectors(model: str | None, kb: str, texts: Sequence[str]) -> np.ndarray:
    """Vectors of all mentions that a linker searches for in texts. *Shape:* (mentions, d), float32."""
    from blink.linking.linker import Linker

    linker = Linker.from_pretrained(*(() if model is None else (model,)), kb=kb)
    analyses = linker.analyze(texts, keep=("mention_vectors",), min_mention_log_prob=linker.min_mention_log_prob)
    return np.concatenate([a.mention_vectors for a in analyses if a.mention_vectors is not None and len(a.mention_vectors)])


def write_wide_model(source: Path, out: Path, seed: int) -> None:
    """Write a model whose mention vectors are those of ``source``, mapped as the entity vectors are.

    Raises:
        SettingsError: its mention vectors go through a layer already.
    """
    import torch

    from blink.errors import SettingsError
    from blink.model.biencoder import BiEncoder
    from blink.model.loading import load_model

    narrow = load_model(source)
    if narrow.config.aggregation != "all_avg":
        raise SettingsError(f"{source} aggregates by {narrow.config.aggregation}; give a model with all_avg")
    config = narrow.config.replace(aggregation="all_avg_linear", base=None, base_sha256=None, adapter_rank=0)
    wide = BiEncoder(config, narrow.tokenizer, context=narrow.context_encoder, entity_size=DIM)
    for name in ("mention_scorer", "case_embedding", "log_scale", "reranker"):
        setattr(wide, name, getattr(narrow, name))
    assert wide.aggregator is not None
    layer = wide.aggregator.mention_agg_linear
    assert isinstance(layer, torch.nn.Linear)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(orthonormal_map(narrow.entity_size, seed)).T)
        layer.bias.zero_()
    wide.save_pretrained(out)
