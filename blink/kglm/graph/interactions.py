"""How vectors of head, relation and tail become a score; higher is more plausible.

TransE, RotatE, ComplEx and DistMult are written here such that a question against all entities is one matrix product wherever
that can be; every other interaction comes from PyKEEN.
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
"""Vectors of entities or relations, one tensor per table that the interaction needs."""

LEAST_SQUARE = 1e-30
"""Squares are no smaller where a root is taken of them, for its slope has no end at 0."""


class Interaction(nn.Module, ABC):
    """Scores of questions: given an anchor entity and a relation, how plausible is each candidate?

    Attributes:
        layout: ``real``, or ``re_im`` where the first half of an entity's numbers are real and the second imaginary parts.
        distance: whether scores are negated distances, at most 0.
        regular_relations: whether regularisers hold relations small.
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
            anchors: vectors of the entities in the questions. *Shapes:* (batch, ...).
            relations: vectors of their relations. *Shapes:* (batch, ...).
            heads: whether the head is asked for; the anchor is then the tail. *Shape:* (batch,), bool.
            candidates: the same for all questions, *shapes:* (n, ...), or for each its own, *shapes:* (batch, n, ...).

        Returns:
            *Shape:* (batch, n).
        """

    def start_relations(self, tables: Sequence[Tensor], generator: torch.Generator) -> None:
        """Set relation tables in place that need other first values than entities."""

    def moduli(self, rows: Tensor) -> Tensor:
        """Absolute values of the numbers of rows, of complex ones their moduli."""
        return complex_modulus(*rows.chunk(2, -1)) if self.layout == "re_im" else rows.abs()


class _Query(Interaction):
    """An interaction that turns anchor and relation into one vector, which candidates are compared with."""

    def shapes(self, dim: int, relation_dim: int) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
        """One vector each, of the same width."""
        return [(dim,)], [(dim,)]

    def forward(self, anchors: Rows, relations: Rows, heads: Tensor, candidates: Rows) -> Tensor:
        """Compare what the questions ask for with the candidates."""
        return self.compare(self.query(anchors[0], relations[0], heads.unsqueeze(-1)), candidates[0])

    @abstractmethod
    def query(self, anchor: Tensor, relation: Tensor, heads: Tensor) -> Tensor:
        """The vector that a perfect answer has or points along. *Shape:* (batch, dim)."""

    def compare(self, query: Tensor, candidates: Tensor) -> Tensor:
        """Products of queries and candidates. *Shapes:* (batch, dim), (n, dim) or (batch, n, dim), and (batch, n)."""
        if candidates.dim() == 2:
            return query @ candidates.T
        return torch.einsum("bd,bnd->bn", query, candidates)


class DistMult(_Query):
    """``sum_k h_k r_k t_k`` (Yang et al. 2015)."""

    def query(self, anchor: Tensor, relation: Tensor, heads: Tensor) -> Tensor:
        """Symmetric: head and tail are asked for alike."""
        return anchor * relation


class ComplEx(_Query):
    """``Re(sum_k h_k r_k conj(t_k))`` (Trouillon et al. 2016); vectors are ``[re ; im]``."""

    layout = "re_im"

    def query(self, anchor: Tensor, relation: Tensor, heads: Tensor) -> Tensor:
        """``h r`` for tails and ``t conj(r)`` for heads: the product with the candidate's conjugate has the same real part."""
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
    """``-sum_k |h_k exp(i theta_k) - t_k|`` (Sun et al. 2019); vectors are ``[re ; im]``, relations half as many numbers.

    Args:
        p: 1 sums the moduli, as the authors do; 2 takes the Euclidean norm, which is one matrix product.
        phase_scale: phases are the numbers of a relation times this. Above 1, relations turn faster than entities move at
            the same learning rate, as in the authors' code, where it is about pi / (largest initial number of an entity).
    """

    layout, distance, regular_relations = "re_im", True, False

    def __init__(self, p: int = 1, phase_scale: float = 1.0) -> None:
        super().__init__()
        self.p, self.phase_scale = _norm(p), float(phase_scale)

    def shapes(self, dim: int, relation_dim: int) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
        """A relation is a phase per complex number."""
        return [(dim,)], [(dim // 2,)]

    def start_relations(self, tables: Sequence[Tensor], generator: torch.Generator) -> None:
        """Phases uniform on the circle."""
        tables[0].uniform_(-math.pi / self.phase_scale, math.pi / self.phase_scale, generator=generator)

    def phases(self, relation: Tensor) -> Tensor:
        """Angles that a relation turns by, in radians."""
        return relation * self.phase_scale

    def query(self, anchor: Tensor, relation: Tensor, heads: Tensor) -> Tensor:
        """The anchor turned by the relation for tails, turned back for heads."""
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
        name: as PyKEEN calls it, such as ``tucker``.
        dim: numbers per entity.
        relation_dim: numbers per relation.
        arguments: for its class; ``embedding_dim`` and the like follow from the widths unless they are given.

    Raises:
        SettingsError: PyKEEN knows none of that name, or the arguments do not fit it.
    """

    SIZES: ClassVar[dict[str, int]] = {"k": 4, "s": 1}
    """Of axes in PyKEEN's shapes that are no width of a vector: slices (a quaternion has 4 parts), and a scalar."""
    NUMBERS_AT_ONCE = 1 << 24
    """Of vectors for pairs of question and candidate, where no gradients are needed."""

    def __init__(self, name: str, dim: int, relation_dim: int, arguments: dict[str, Any]) -> None:
        super().__init__()
        interaction_resolver = extra("pykeen.nn").interaction_resolver
        if name not in interaction_resolver.lookup_dict:
            own = ", ".join([*OWN, *sorted(set(interaction_resolver.lookup_dict) - set(OWN))])
            raise SettingsError(f"model.name is {name!r}, which is no interaction; there are {own}")
        kind = interaction_resolver.lookup(name)
        taken = inspect.signature(kind.__init__).parameters
        widths = {"embedding_dim": dim, "input_dim": dim, "head_dim": dim, "tail_dim": dim, "relation_dim": relation_dim}
        given = {key: value for key, value in widths.items() if key in taken}
        if "p" in taken and taken["p"].default is inspect.Parameter.empty:
            given["p"] = 2
        try:
            self.inner = kind(**{**given, **arguments})
        except (TypeError, ValueError, AssertionError) as error:
            raise SettingsError(
                f"{name} does not take model.arguments {arguments} ({error}); see PyKEEN's documentation"
            ) from error
        self.layout = "re_im" if kind.is_complex else "real"
        self.distance = "p" in taken

    def shapes(self, dim: int, relation_dim: int) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
        """PyKEEN names axes by letters: d is the width of entities, e that of relations."""
        sizes = {**self.SIZES, "d": dim, "f": dim, "e": relation_dim}
        wanted = (self.inner.entity_shape, self.inner.relation_shape)
        entities, relations = ([tuple(sizes[axis] for axis in shape) for shape in shapes] for shapes in wanted)
        return entities, relations

    def forward(self, anchors: Rows, relations: Rows, heads: Tensor, candidates: Rows) -> Tensor:
        """Heads and tails are asked for by turns."""
        sides = [bool(side) for side in heads.unique()]
        parts = [self._side(anchors, relations, heads == side, candidates, side) for side in sides]
        if len(parts) == 1:
            return parts[0]
        scores = parts[0].new_empty(len(heads), parts[0].shape[1])
        scores[~heads], scores[heads] = parts
        return scores

    def _side(self, anchors: Rows, relations: Rows, chosen: Tensor, candidates: Rows, asks_heads: bool) -> Tensor:
        """Scores of the chosen questions, which ask for the same side."""
        shared = candidates[0].dim() == 1 + len(self.inner.entity_shape[0])
        anchor, relation = (self._values(tuple(x[chosen].unsqueeze(1) for x in rows)) for rows in (anchors, relations))
        answers = self._values(tuple(x.unsqueeze(0) if shared else x[chosen] for x in candidates))
        # Many interactions make a vector for each pair. Gradients need them all; without, a part at a time does.
        size = answers[0].shape[1]
        if not torch.is_grad_enabled():
            size = max(self.NUMBERS_AT_ONCE // max(anchor[0].numel(), 1), 1)
        parts = zip(*(x.split(size, 1) for x in answers), strict=True)
        return torch.cat([self._scores(anchor, relation, part, asks_heads) for part in parts], 1)

    def _scores(self, anchor: Rows, relation: Rows, answers: Rows, asks_heads: bool) -> Tensor:
        head, tail = (answers, anchor) if asks_heads else (anchor, answers)
        head = tuple(head[i] for i in self.inner.head_indices)
        tail = tuple(tail[i] for i in self.inner.tail_indices)
        scores: Tensor = self.inner(*(x[0] if len(x) == 1 else x for x in (head, relation, tail)))
        return scores.expand(len(anchor[0]), answers[0].shape[1])

    def _values(self, rows: Rows) -> Rows:
        """Rows as PyKEEN wants them: complex numbers rather than their halves."""
        return tuple(torch.complex(*x.chunk(2, -1)) for x in rows) if self.layout == "re_im" else rows


OWN: dict[str, type[_Query]] = {"complex": ComplEx, "distmult": DistMult, "rotate": RotatE, "transe": TransE}
"""Interactions written here, by name."""


def make_interaction(name: str, dim: int, relation_dim: int, arguments: dict[str, Any]) -> Interaction:
    """The interaction that settings name.

    Raises:
        SettingsError: there is none of that name, its arguments do not fit, or half of ``dim`` is no whole number.
    """
    key = name.lower()
    if key not in OWN:
        made: Interaction = FromPyKEEN(key, dim, relation_dim, arguments)
    else:
        try:
            made = OWN[key](**arguments)
        except TypeError as error:
            allowed = ", ".join(inspect.signature(OWN[key]).parameters) or "none"
            raise SettingsError(f"{key} does not take model.arguments {arguments}; it takes: {allowed}") from error
    if made.layout == "re_im" and dim % 2:
        raise SettingsError(f"model.dim is {dim}; {key} needs an even number, half of it real and half imaginary parts")
    return made


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
    """``|re + i im|``, with a slope of 0 where both are 0. *Shapes:* all alike."""
    return (re.square() + im.square()).clamp_min(LEAST_SQUARE).sqrt()


def _conjugated(x: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
    re, im = x.chunk(2, -1)
    return re, torch.where(where, -im, im)


# -- distances to all candidates -----------------------------------------------------------------------------------------


def euclidean(query: Tensor, candidates: Tensor) -> Tensor:
    """Euclidean distances. *Shapes:* (batch, d), (n, d) and (batch, n).

    In float32 by one matrix product: squares of near-equal vectors cancel, to an error of about ``3e-4 |q|``, which is well
    enough to train by. In float64, which ranks are made in, each difference is taken: equal vectors are equally far.
    """
    if query.dtype == torch.float64:
        return torch.cdist(query, candidates, compute_mode="donot_use_mm_for_euclid_dist")
    squares = query.square().sum(-1, keepdim=True) + candidates.square().sum(-1)
    return torch.addmm(squares, query, candidates.T, alpha=-2.0).clamp_min(1e-12).sqrt()


class SummedModuli(torch.autograd.Function):
    """``sum_k |q_k - c_k|`` over complex numbers, between all queries and all candidates.

    The differences, a vector for each pair, are made a part at a time and made again on the way back, so that memory stays at
    that of the scores, and the parts in the processor's cache.
    """

    NUMBERS_AT_ONCE = 1 << 17

    @staticmethod
    def forward(ctx: Any, query: Tensor, candidates: Tensor) -> Tensor:
        """*Shapes:* (batch, 2k), (n, 2k) and (batch, n)."""
        ctx.save_for_backward(query, candidates)
        result = query.new_empty(len(query), len(candidates))
        for rows, columns, (re, im) in SummedModuli._parts(query, candidates):
            result[rows, columns] = torch.hypot(re, im).sum(-1)
        return result

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, Tensor]:
        """Each difference pulls along its own direction, of length 1."""
        query, candidates = ctx.saved_tensors
        to_query, to_candidates = torch.zeros_like(query), torch.zeros_like(candidates)
        for rows, columns, (re, im) in SummedModuli._parts(query, candidates):
            factor = slopes[0][rows, columns].unsqueeze(-1) / torch.hypot(re, im).clamp_min_(math.sqrt(LEAST_SQUARE))
            for half, part in enumerate((re.mul_(factor), im.mul_(factor))):
                k = part.shape[-1]
                to_query[rows, half * k : (half + 1) * k] += part.sum(1)
                to_candidates[columns, half * k : (half + 1) * k] -= part.sum(0)
        return to_query, to_candidates

    @staticmethod
    def _parts(query: Tensor, candidates: Tensor) -> Any:
        """Slices of queries and of candidates, and their differences. *Shapes:* (rows, columns, k) twice."""
        k = query.shape[1] // 2
        height = 8 if query.device.type == "cpu" else 64
        width = max(SummedModuli.NUMBERS_AT_ONCE * (height // 8) ** 2 // (height * k), 1)
        for top in range(0, len(query), height):
            q = query[top : top + height].unsqueeze(1)
            for left in range(0, len(candidates), width):
                difference = q - candidates[left : left + width]
                yield slice(top, top + height), slice(left, left + width), difference.split(k, -1)
