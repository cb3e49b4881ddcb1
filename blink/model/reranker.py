"""The reranker's network: from features of a mention and its candidates to log-odds of each candidate.

A small network scores each candidate of a span; "names nothing in the knowledge base" is a candidate of its own with score
0. So one softmax answers both what a span names and whether it is to be linked at all.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from blink.checksums import CHECKSUMS_FILE
from blink.errors import CheckpointError, SettingsError
from blink.files import atomic_open
from blink.input_files import has_file, utf8_path
from blink.model.weight_checks import require_finite
from blink.replacing import replacing

RANKER_FILE = "ranker.safetensors"
IS_CASED = "is_cased"
"""Feature by which probabilities of texts without capital letters are scaled apart."""
_BLOCK = 1024
"""Candidates scored at a time, so that what lies between two layers stays in the cache."""
STORED_FEATURES = {
    "is_unambiguous": "only",
    "is_fuzzy_match": "near",
    "in_alias_table": "known",
    "popularity": "fame",
    "popularity_gap": "named_fame",
    "is_lowercase": "small",
    "is_capitalized": "capital",
    "is_numeric": "number",
    "overlap_margin": "rival",
}
"""Features by the names that files of earlier versions use for them; such files load, and are saved with the new names."""
_CURRENT = {stored: feature for feature, stored in STORED_FEATURES.items()}


@dataclass(frozen=True)
class Scaling:
    """Makes scores probabilities: they are multiplied by ``scale`` and moved by ``shift`` (Platt 1999; Guo et al. 2017).

    Where a text has no capital letters, as typed questions, a score says something else than in prose: it is moved by
    ``uncased_shift`` as well.
    """

    scale: float = 1.0
    shift: float = 0.0
    uncased_shift: float = field(default=0.0, repr=False)  # stored weights of priors name the other two

    def apply(self, scores: np.ndarray, is_cased: np.ndarray | bool) -> np.ndarray:
        """Scale scores of spans in texts with or without capital letters. ``is_cased`` must broadcast with ``scores``."""
        moved: np.ndarray = scores * self.scale + self.shift
        return np.where(is_cased, moved, moved + self.uncased_shift) if self.uncased_shift else moved


@dataclass(frozen=True)
class RerankerNetwork:
    """Fitted weights of a reranker.

    Attributes:
        features: names of its inputs, in order.
        mean: of each feature in the data it was fitted on. *Shape:* (features,), float32.
        spread: standard deviation of each. *Shape:* (features,), float32.
        layers: weights and biases; GELU between them. *Shape:* (out, in) and (out,) each, float32.
        min_mention_log_prob: spans whose log sigmoid mention score is not above it were not in the training data of this
            network, and are not reranked.
        scaling: of the scores.
        off: features that are ignored: they count as average.
    """

    features: tuple[str, ...]
    mean: np.ndarray
    spread: np.ndarray
    layers: tuple[tuple[np.ndarray, np.ndarray], ...]
    min_mention_log_prob: float
    scaling: Scaling = Scaling()
    off: frozenset[str] = frozenset()

    def scores(self, features: np.ndarray, real: np.ndarray) -> np.ndarray:
        """Score candidates against "nothing", which has 0: log-odds, if there were no other candidate.

        Args:
            features: *Shape:* (m, candidates, features), float32.
            real: which candidates there are. *Shape:* (m, candidates), bool.

        Returns:
            -inf where there is no candidate. *Shape:* (m, candidates), float32.
        """
        enabled = np.array([name not in self.off for name in self.features], dtype=np.float32)
        x = (features[real] - self.mean) / self.spread * enabled
        raw = np.concatenate([self._raw(x[at : at + _BLOCK]) for at in range(0, max(len(x), 1), _BLOCK)])
        scored = np.full(real.shape, -np.inf, dtype=np.float32)
        scored[real] = self.scaling.apply(raw, self.is_cased(features)[real])
        return scored

    def _raw(self, x: np.ndarray) -> np.ndarray:
        """Scores before scaling. *Shape:* (n, features) to (n,), float32."""
        for weight, bias in self.layers[:-1]:
            x = x @ weight.T
            x += bias
            x = _gelu(x)
        weight, bias = self.layers[-1]
        raw: np.ndarray = (x @ weight.T + bias)[:, 0]
        return raw

    def is_cased(self, features: np.ndarray) -> np.ndarray:
        """Whether the text of each candidate has capital letters; true where this is no feature. *Shape:* (m, candidates)."""
        if IS_CASED not in self.features:
            return np.ones(features.shape[:-1], dtype=bool)
        cased: np.ndarray = features[..., self.features.index(IS_CASED)] > 0
        return cased

    def without(self, names: Sequence[str]) -> RerankerNetwork:
        """The same network without some features.

        Raises:
            SettingsError: it has no such feature.
        """
        unknown = sorted(set(names) - set(self.features))
        if unknown:
            raise SettingsError(f"the reranker has no feature {unknown[0]!r}; it has {', '.join(self.features)}")
        return replace(self, off=self.off | frozenset(names))

    def scaled(self, scaling: Scaling) -> RerankerNetwork:
        """The same network with other probabilities, of candidates in the same order."""
        return replace(self, scaling=scaling)

    def save(self, folder: str | Path) -> None:
        """Write it into a model folder, where there are checksums with its own."""
        folder = Path(folder)
        with replacing(folder) if (folder / CHECKSUMS_FILE).is_file() else contextlib.nullcontext(folder) as target:
            self._write(target)

    def _write(self, folder: Path) -> None:
        tensors = {"mean": self.mean, "spread": self.spread}
        for i, (weight, bias) in enumerate(self.layers):
            tensors |= {f"layers.{i}.weight": weight, f"layers.{i}.bias": bias}
        about = {
            "features": list(self.features),
            "floor": self.min_mention_log_prob,
            "scale": self.scaling.scale,
            "shift": self.scaling.shift,
            "uncased_shift": self.scaling.uncased_shift,
        }
        with atomic_open(folder / RANKER_FILE, "wb") as f:
            save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, f.name, {"ranker": json.dumps(about)})

    @classmethod
    def load(cls, folder: str | Path) -> RerankerNetwork | None:
        """Read the network of a model folder; None where there is none.

        Raises:
            CheckpointError: it is damaged.
        """
        path = Path(folder) / RANKER_FILE
        if not has_file(path, "copy the model folder again"):
            return None
        try:
            with safe_open(utf8_path(path), framework="np") as f:
                about = json.loads(f.metadata()["ranker"])
                tensors = {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118 - no mapping
            require_finite(path, tensors)
            return _assembled(about, tensors)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path} is damaged ({error}); copy the model folder again") from error


def _gelu(x: np.ndarray) -> np.ndarray:
    """Gaussian error linear unit, by its approximation with tanh (Hendrycks & Gimpel 2016). *Shape:* that of ``x``, float32."""
    result: np.ndarray = x * x
    # In place: the time of large batches goes into memory.
    result *= np.float32(0.044715)
    result += 1
    result *= x
    result *= np.float32(math.sqrt(2 / math.pi))
    np.tanh(result, out=result)
    result += 1
    result *= x
    result *= np.float32(0.5)
    return result


def _assembled(about: Mapping[str, object], tensors: Mapping[str, np.ndarray]) -> RerankerNetwork:
    features = about["features"]
    if not isinstance(features, list):
        raise TypeError("it names no features")
    depth = sum(name.endswith(".weight") for name in tensors)
    layers = tuple((tensors[f"layers.{i}.weight"], tensors[f"layers.{i}.bias"]) for i in range(depth))
    sizes = [len(features), *(bias.size for _, bias in layers)]
    shapes = [weight.shape for weight, _ in layers]
    if (
        not depth
        or any(bias.ndim != 1 for _, bias in layers)
        or shapes != list(zip(sizes[1:], sizes[:-1], strict=True))
        or sizes[-1] != 1
    ):
        raise ValueError(f"its layers have shapes {shapes} for {len(features)} features")
    for name in ("mean", "spread"):
        if tensors[name].shape != (len(features),):
            raise ValueError(f"its {name} has shape {tensors[name].shape} for {len(features)} features")
    scale, shift, min_log_prob = (float(str(about[key])) for key in ("scale", "shift", "floor"))
    scaling = Scaling(scale, shift, float(str(about.get("uncased_shift", 0.0))))
    if not all(map(math.isfinite, (scale, shift, scaling.uncased_shift))) or math.isnan(min_log_prob):
        raise ValueError("its scaling is not finite")
    if not (tensors["spread"] > 0).all():
        raise ValueError("the spread of a feature is not above 0")
    names = tuple(_CURRENT.get(str(name), str(name)) for name in features)
    return RerankerNetwork(names, tensors["mean"], tensors["spread"], layers, min_log_prob, scaling)
