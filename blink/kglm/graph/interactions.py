"""Interactions: scores of head, relation and tail embeddings; higher is more plausible.

TransE, RotatE, ComplEx and DistMult are implemented here, so that a query against all entities is one matrix product where
possible. All other interactions come from PyKEEN.
"""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from blink.errors import SettingsError
from blink.kglm.config import extra

Rows = tuple[Tensor, ...]
"""Embeddings of entities or relations, one tensor per table of the interaction."""

MIN_SQUARE = 1e-30
"""Lower bound of squares before a square root, whose gradient is infinite at 0."""


class Interaction(nn.Module, ABC):
    """Scores candidates as answers of queries of an anchor entity and a relation.

    Attributes:
        layout: ``real``, or ``re_im`` if an entity vector is the real parts followed by the imaginary parts.
        distance: whether scores are negated distances, at most 0.
        regular_relations: whether regularisers apply to relations.
    """

    layout = "real"
    distance = False
    regular_relations = True

    @abstractmethod
    def shapes(self, dim: int, relation_dim: int) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
        """Shapes of a row in each entity table and in each relation table."""

    @abstractmethod
    def forward(self, anchors: Rows, relations: Rows, heads: Tensor, candidates: Rows) -> Tensor:
        """Score candidates as answers.

        Args:
            anchors: embeddings of the anchors. *Shapes:* (batch, ...).
            relations: embeddings of the relations. *Shapes:* (batch, ...).
            heads: whether the head is predicted, and the anchor is the tail. *Shape:* (batch,), bool.
            candidates: shared by all queries, *shapes:* (n, ...), or per query, *shapes:* (batch, n, ...).

        Returns:
            *Shape:* (batch, n).
        """

    def start_relations(self, tables: Sequence[Tensor], generator: torch.Generator) -> None:
        """Initialize relation tables in place if they need another initialization than entities."""

    def moduli(self, rows: Tensor) -> Tensor:
        """Absolute values of rows; moduli of complex rows."""
        return complex_modulus(*rows.chunk(2, -1)) if self.layout == "re_im" else rows.abs()


class _Query(Interaction):
    """An interaction that combines anchor and relation into a query vector, which is compared with candidates."""

    def shapes(self, dim: int, relation_dim: int) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
        """One vector each, of the same dimension."""
        return [(dim,)], [(dim,)]

    def forward(self, anchors: Rows, relations: Rows, heads: Tensor, candidates: Rows) -> Tensor:
        """Compare query vectors with candidates."""
        return self.compare(self.query(anchors[0], relations[0], heads.unsqueeze(-1)), candidates[0])

    @abstractmethod
    def query(self, anchor: Tensor, relation: Tensor, heads: Tensor) -> Tensor:
        """The query vector. *Shape:* (batch, dim)."""

    def compare(self, query: Tensor, candidates: Tensor) -> Tensor:
        """Dot products of queries and candidates. *Shapes:* (batch, dim), (n, dim) or (batch, n, dim), and (batch, n)."""
        if candidates.dim() == 2:
            return query @ candidates.T
        return torch.einsum("bd,bnd->bn", query, candidates)


class DistMult(_Query):
    """``sum_k h_k r_k t_k`` (Yang et al. 2015)."""

    def query(self, anchor: Tensor, relation: Tensor, heads: Tensor) -> Tensor:
        """Symmetric in head and tail."""
        return anchor * relation


class ComplEx(_Query):
    """``Re(sum_k h_k r_k conj(t_k))`` (Trouillon et al. 2016); vectors are ``[re ; im]``."""

    layout = "re_im"

    def query(self, anchor: Tensor, relation: Tensor, heads: Tensor) -> Tensor:
        """``h r`` for tails, ``t conj(r)`` for heads; the dot product with the candidate is the score in either case."""
        return complex_product(anchor, *_conjugated(relation, heads))


class TransE(_Query):
    """``-|h + r - t|_p`` (Bordes et al. 2013).

    Args:
        p: 1 or 2.
    """

    distance = True

    def __init__(self, p: int = 2) -> None:
        super().__init__()
        self.p = _norm(p)

    def query(self, anchor: Tensor, relation: Tensor, heads: Tensor) -> Tensor:
        """``h + r`` for tails, ``t - r`` for heads."""
        return anchor + torch.where(heads, -relation, relation)

    def compare(self, query: Tensor, candidates: Tensor) -> Tensor:
        """Negated distances."""
        if candidates.dim() == 3:
            return -torch.linalg.vector_norm(query.unsqueeze(1) - candidates, ord=self.p, dim=-1)
        return -(torch.cdist(query, candidates, p=1.0) if self.p == 1 else euclidean(query, candidates))


class RotatE(_Query):
    """``-sum_k |h_k exp(i theta_k) - t_k|`` (Sun et al. 2019); entities are ``[re ; im]``, relations have half the dimension.

    Args:
        p: 1 sums the moduli, as the authors do; 2 is the Euclidean norm, which is one matrix product.
        phase_scale: factor from relation embeddings to phases. Above 1, phases change faster than entities at the same learning
            rate. In the authors' code, it is about pi / (largest initial value of an entity).
    """

    layout, distance, regular_relations = "re_im", True, False

    def __init__(self, p: int = 1, phase_scale: float = 1.0) -> None:
        super().__init__()
        self.p, self.phase_scale = _norm(p), float(phase_scale)

    def shapes(self, dim: int, relation_dim: int) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
        """A relation has one phase per complex dimension."""
        return [(dim,)], [(dim // 2,)]

    def start_relations(self, tables: Sequence[Tensor], generator: torch.Generator) -> None:
        """Uniform phases."""
        tables[0].uniform_(-math.pi / self.phase_scale, math.pi / self.phase_scale, generator=generator)

    def phases(self, relation: Tensor) -> Tensor:
        """Rotation angles in radians."""
        return relation * self.phase_scale

    def query(self, anchor: Tensor, relation: Tensor, heads: Tensor) -> Tensor:
        """The anchor rotated by the relation for tails, and by the inverse for heads."""
        phase = torch.where(heads, -self.phases(relation), self.phases(relation))
        return complex_product(anchor, phase.cos(), phase.sin())

    def compare(self, query: Tensor, candidates: Tensor) -> Tensor:
        """Negated distances."""
        if self.p == 1:
            if candidates.dim() == 3:
                return -complex_modulus(*(query.unsqueeze(1) - candidates).chunk(2, -1)).sum(-1)
            return -SummedModuli.apply(query, candidates)  # type: ignore[no-untyped-call]
        if candidates.dim() == 3:
            return -torch.linalg.vector_norm(query.unsqueeze(1) - candidates, dim=-1)
        return -euclidean(query, candidates)


class FromPyKEEN(Interaction):
    """Any interaction of PyKEEN.

    Args:
        name: PyKEEN's name, such as ``tucker``.
        dim: dimension of entities.
        relation_dim: dimension of relations.
        arguments: arguments of its class; ``embedding_dim`` and similar default to the dimensions.

    Raises:
        SettingsError: PyKEEN has no such interaction, or the arguments are invalid.
    """

    SIZES: ClassVar[dict[str, int]] = {"k": 4, "s": 1}
    """Sizes of axes in PyKEEN's shapes that are not dimensions: components (4 of a quaternion), and a scalar."""
    CHUNK_VALUES = 1 << 24
    """Values per chunk of vectors for pairs of query and candidate, without gradients."""

    def __init__(self, name: str, dim: int, relation_dim: int, arguments: dict[str, Any]) -> None:
        super().__init__()
        interaction_resolver = extra("pykeen.nn").interaction_resolver
        if name not in interaction_resolver.lookup_dict:
            names = ", ".join([*INTERACTIONS, *sorted(set(interaction_resolver.lookup_dict) - set(INTERACTIONS))])
            raise SettingsError(f"model.name is {name!r}, which is no interaction; allowed are {names}")
        kind = interaction_resolver.lookup(name)
        parameters = inspect.signature(kind.__init__).parameters
        widths = {"embedding_dim": dim, "input_dim": dim, "head_dim": dim, "tail_dim": dim, "relation_dim": relation_dim}
        sizes = {key: value for key, value in widths.items() if key in parameters}
        if "p" in parameters and parameters["p"].default is inspect.Parameter.empty:
            sizes["p"] = 2
        try:
            self.inner = kind(**{**sizes, **arguments})
        except (TypeError, ValueError, AssertionError) as error:
            raise SettingsError(
                f"{name} does not take model.arguments {arguments} ({error}); see PyKEEN's documentation"
            ) from error
        self.layout = "re_im" if kind.is_complex else "real"
        self.distance = "p" in parameters

    def shapes(self, dim: int, relation_dim: int) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
        """PyKEEN names axes by letters: d is the dimension of entities, e of relations."""
        sizes = {**self.SIZES, "d": dim, "f": dim, "e": relation_dim}
        axes = (self.inner.entity_shape, self.inner.relation_shape)
        entities, relations = ([tuple(sizes[axis] for axis in shape) for shape in shapes] for shapes in axes)
        return entities, relations

    def forward(self, anchors: Rows, relations: Rows, heads: Tensor, candidates: Rows) -> Tensor:
        """Score head queries and tail queries separately."""
        sides = [bool(side) for side in heads.unique()]
        by_side = [self._side(anchors, relations, heads == side, candidates, side) for side in sides]
        if len(by_side) == 1:
            return by_side[0]
        scores = by_side[0].new_empty(len(heads), by_side[0].shape[1])
        scores[~heads], scores[heads] = by_side
        return scores

    def _side(self, anchors: Rows, relations: Rows, mask: Tensor, candidates: Rows, heads: bool) -> Tensor:
        """Scores of the masked queries, which are all of one side."""
        shared = candidates[0].dim() == 1 + len(self.inner.entity_shape[0])
        anchor, relation = (self._values(tuple(x[mask].unsqueeze(1) for x in rows)) for rows in (anchors, relations))
        answers = self._values(tuple(x.unsqueeze(0) if shared else x[mask] for x in candidates))
        # Many interactions create a vector for each pair. Without gradients, chunks save memory.
        size = answers[0].shape[1]
        if not torch.is_grad_enabled():
            size = max(self.CHUNK_VALUES // max(anchor[0].numel(), 1), 1)
        chunks = zip(*(x.split(size, 1) for x in answers), strict=True)
        return torch.cat([self._scores(anchor, relation, chunk, heads) for chunk in chunks], 1)

    def _scores(self, anchor: Rows, relation: Rows, answers: Rows, heads: bool) -> Tensor:
        head, tail = (answers, anchor) if heads else (anchor, answers)
        head = tuple(head[i] for i in self.inner.head_indices)
        tail = tuple(tail[i] for i in self.inner.tail_indices)
        scores: Tensor = self.inner(*(x[0] if len(x) == 1 else x for x in (head, relation, tail)))
        return scores.expand(len(anchor[0]), answers[0].shape[1])

    def _values(self, rows: Rows) -> Rows:
        """Rows in PyKEEN's layout, with complex numbers instead of real and imaginary halves."""
        return tuple(torch.complex(*x.chunk(2, -1)) for x in rows) if self.layout == "re_im" else rows


INTERACTIONS: dict[str, type[_Query]] = {"complex": ComplEx, "distmult": DistMult, "rotate": RotatE, "transe": TransE}
"""Interactions that are implemented here, by name."""


def make_interaction(name: str, dim: int, relation_dim: int, arguments: dict[str, Any]) -> Interaction:
    """Create an interaction by name.

    Raises:
        SettingsError: the name is unknown, the arguments are invalid, or ``dim`` is odd for a complex interaction.
    """
    key = name.lower()
    if key not in INTERACTIONS:
        interaction: Interaction = FromPyKEEN(key, dim, relation_dim, arguments)
    else:
        try:
            interaction = INTERACTIONS[key](**arguments)
        except TypeError as error:
            allowed = ", ".join(inspect.signature(INTERACTIONS[key]).parameters) or "none"
            raise SettingsError(f"{key} does not take model.arguments {arguments}; it takes: {allowed}") from error
    if interaction.layout == "re_im" and dim % 2:
        raise SettingsError(f"model.dim is {dim}; {key} needs an even number, half of it real and half imaginary parts")
    return interaction


def _norm(p: int) -> int:
    if p not in (1, 2):
        raise SettingsError(f"model.arguments.p is {p!r}; it must be 1 or 2")
    return p


# -- complex numbers as halves of real vectors ---------------------------------------------------------------------------


def complex_product(x: Tensor, re: Tensor, im: Tensor) -> Tensor:
    """``x`` (``[re ; im]``) times ``re + i im``. *Shapes:* (..., 2k), (..., k), (..., k) and (..., 2k)."""
    x_re, x_im = x.chunk(2, -1)
    return torch.cat([x_re * re - x_im * im, x_re * im + x_im * re], -1)


def complex_modulus(re: Tensor, im: Tensor) -> Tensor:
    """``|re + i im|``, with gradient 0 where both are 0. *Shapes:* all the same."""
    return (re.square() + im.square()).clamp_min(MIN_SQUARE).sqrt()


def _conjugated(x: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
    re, im = x.chunk(2, -1)
    return re, torch.where(where, -im, im)


# -- distances to all candidates -----------------------------------------------------------------------------------------


def euclidean(query: Tensor, candidates: Tensor) -> Tensor:
    """Euclidean distances. *Shapes:* (batch, d), (n, d) and (batch, n).

    In float32, this is one matrix product. Squares of similar vectors cancel, with an error of about ``3e-4 |q|``, which is
    accurate enough for training. In float64, which is used for ranking, differences are computed, so equal vectors have equal
    distances.
    """
    if query.dtype == torch.float64:
        return torch.cdist(query, candidates, compute_mode="donot_use_mm_for_euclid_dist")
    squares = query.square().sum(-1, keepdim=True) + candidates.square().sum(-1)
    return torch.addmm(squares, query, candidates.T, alpha=-2.0).clamp_min(1e-12).sqrt()


class SummedModuli(torch.autograd.Function):
    """``sum_k |q_k - c_k|`` over complex numbers, between all queries and all candidates.

    The differences, a vector for each pair, are computed in blocks and recomputed in the backward pass. Memory is that of the
    scores, and blocks fit into the processor's cache.
    """

    CHUNK_VALUES = 1 << 17

    @staticmethod
    def forward(ctx: Any, query: Tensor, candidates: Tensor) -> Tensor:
        """*Shapes:* (batch, 2k), (n, 2k) and (batch, n)."""
        ctx.save_for_backward(query, candidates)
        result = query.new_empty(len(query), len(candidates))
        for rows, columns, (re, im) in SummedModuli._blocks(query, candidates):
            result[rows, columns] = torch.hypot(re, im).sum(-1)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient of each modulus is the normalized difference."""
        query, candidates = ctx.saved_tensors
        to_query, to_candidates = torch.zeros_like(query), torch.zeros_like(candidates)
        for rows, columns, (re, im) in SummedModuli._blocks(query, candidates):
            factor = gradients[0][rows, columns].unsqueeze(-1) / torch.hypot(re, im).clamp_min_(math.sqrt(MIN_SQUARE))
            for half, gradient in enumerate((re.mul_(factor), im.mul_(factor))):
                k = gradient.shape[-1]
                to_query[rows, half * k : (half + 1) * k] += gradient.sum(1)
                to_candidates[columns, half * k : (half + 1) * k] -= gradient.sum(0)
        return to_query, to_candidates

    @staticmethod
    def _blocks(query: Tensor, candidates: Tensor) -> Any:
        """Slices of queries and of candidates, and their differences. *Shapes:* (rows, columns, k) twice."""
        k = query.shape[1] // 2
        height = 8 if query.device.type == "cpu" else 64
        width = max(SummedModuli.CHUNK_VALUES * (height // 8) ** 2 // (height * k), 1)
        for top in range(0, len(query), height):
            q = query[top : top + height].unsqueeze(1)
            for start in range(0, len(candidates), width):
                difference = q - candidates[start : start + width]
                yield slice(top, top + height), slice(start, start + width), difference.split(k, -1)
