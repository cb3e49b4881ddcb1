"""Predict what a graph lacks: the most plausible tails, heads or relations of a question, by a trained model.

Scores of all entities are computed in chunks, in float64 as for ranks, and only the best are kept, so that memory does not
grow with the graph. Any interaction that can be trained here can be asked.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blink.errors import DataError, SettingsError
from blink.files import require_file
from blink.input_files import read_bytes
from blink.kglm.graph.answers import Answers, answers_of
from blink.kglm.graph.model import GraphModel, Queries
from blink.kglm.graph.runner import open_run
from blink.kglm.graph.triples import Graph
from blink.kglm.lm.triples import read_names
from blink.kglm.names import Names
from blink.kglm.run import KglmRun
from blink.kglm.settings import GloveSettings, GraphSections
from blink.runs.progress import Progress

SLOTS = ("head", "relation", "tail")
UNKNOWN = ("", "?")
"""What stands in a file of questions for what is asked."""
TRIPLES_AT_ONCE = 4096


@dataclass(frozen=True)
class Question:
    """A triple with one empty place; ids or names in the others.

    Attributes:
        head, relation, tail: None where the answer belongs.
    """

    head: str | None = None
    relation: str | None = None
    tail: str | None = None

    def __post_init__(self) -> None:
        if [self.head, self.relation, self.tail].count(None) != 1:
            raise SettingsError("a question has two of head, relation and tail; give two, such as --head NAME --relation NAME")

    @property
    def asked(self) -> str:
        """The place of the answer, one of `SLOTS`."""
        return next(slot for slot in SLOTS if getattr(self, slot) is None)


@dataclass(frozen=True)
class Answer:
    """An answer to a question.

    Attributes:
        id: of the entity or relation.
        name: its name; the id if there is none.
        score: of the triple; higher is more plausible. Scores of different relations are not on one scale.
        known: whether the triple is in the graph.
    """

    id: str
    name: str
    score: float
    known: bool

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return dict(vars(self))


class Predictor:
    """Answers questions by a trained graph model.

    Args:
        model: the model.
        graph: its graph.
        labels: names by id, of entities and relations.
        batch_size: questions at once.
        chunk: entities at once.

    Example:
        >>> predictor = Predictor.open("experiments/complex", ["entity.jsonl"])
        >>> predictor.answers([Question(head="Batumi", relation="country")], top=3)
    """

    def __init__(
        self,
        model: GraphModel,
        graph: Graph,
        labels: Mapping[str, str] | None = None,
        *,
        batch_size: int = 512,
        chunk: int = 16384,
    ) -> None:
        self._model, self._graph, self._batch_size, self._chunk = model.exact(), graph, batch_size, chunk
        self.entities, self.relations = Names("entity", graph.entities, labels), Names("relation", graph.relations, labels)
        splits = [torch.from_numpy(triples) for triples in graph.splits.values()]
        self._known: Answers = answers_of(splits, len(graph.entities), len(graph.relations)).to(model.device)

    @classmethod
    def open(cls, folder: str | Path, names: Sequence[str | Path] = (), progress: Progress | None = None) -> Predictor:
        """The predictor of the best state of a run.

        Args:
            folder: of a run of kind graph, or of kind glove with a graph.
            names: files of names: ``id<TAB>name`` lines, ``.json``, or the ``entity.jsonl`` of a catalogue.
            progress: hooks, of reading the graph.

        Raises:
            SettingsError: the run has no graph model.
            MissingFileError, MismatchError, DataError: it has no best state, or files of its graph are missing or changed.
        """
        labels = {id_: name for file in names for id_, name in read_names(file).items()}
        settings, graph, model = open_model(Path(folder), progress)
        return cls(model, graph, labels, batch_size=settings.eval.batch_size, chunk=settings.eval.chunk)

    def answers(self, questions: Sequence[Question], top: int = 10, *, known: bool = False) -> list[list[Answer]]:
        """The best answers of each question, the most plausible first.

        Args:
            questions: each has two of head, relation and tail.
            top: number of answers.
            known: also triples of the graph, marked; otherwise only new ones.

        Raises:
            DataError: a name is unknown, or several entities have it.
        """
        rows = [self._rows(question) for question in questions]
        result: list[list[Answer]] = [[] for _ in questions]
        for relation in (False, True):
            numbers = [i for i, question in enumerate(questions) if (question.asked == "relation") == relation]
            for start in range(0, len(numbers), self._batch_size):
                batch = numbers[start : start + self._batch_size]
                find = self._relations_of if relation else self._entities_of
                for number, best in zip(batch, find([rows[i] for i in batch], top, known), strict=True):
                    result[number] = best
        return result

    def lines(self, question: Question, answers: Sequence[Answer]) -> Iterator[str]:
        """A question and its answers as lines for people, the question by the names of what it names."""
        names = (self.entities, self.relations, self.entities)
        yield "  ".join("?" if row < 0 else kind.shown(row) for kind, row in zip(names, self._rows(question), strict=True))
        width = max((len(f"{answer.score:.4g}") for answer in answers), default=0)
        for number, answer in enumerate(answers, 1):
            shown = answer.name if answer.name == answer.id else f"{answer.name} ({answer.id})"
            yield f"{number:4}  {answer.score:>{width}.4g}  {shown}{'  known' if answer.known else ''}"

    def _rows(self, question: Question) -> tuple[int, int, int]:
        """Indices of head, relation and tail; -1 for what is asked."""
        names = (self.entities, self.relations, self.entities)
        texts = (question.head, question.relation, question.tail)
        head, relation, tail = (-1 if text is None else kind.row(text) for kind, text in zip(names, texts, strict=True))
        return head, relation, tail

    @torch.no_grad()
    def _entities_of(self, rows: Sequence[tuple[int, int, int]], top: int, known: bool) -> list[list[Answer]]:
        table = torch.tensor(rows, device=self._model.device)
        heads = table[:, 0] < 0
        queries = Queries(torch.where(heads, table[:, 2], table[:, 0]), table[:, 1], heads)
        found = self._known.find(queries)
        query, answer = self._known.of(found)
        order = torch.argsort(answer)
        query, answer = query[order], answer[order]
        scores = torch.zeros(len(rows), 0, dtype=torch.float64, device=table.device)
        entities = torch.zeros(len(rows), 0, dtype=torch.long, device=table.device)
        for first in range(0, len(self._graph.entities), self._chunk):
            last = min(first + self._chunk, len(self._graph.entities))
            chunk = self._model.scores(queries, slice(first, last)).double()
            if not known:
                begin, end = torch.searchsorted(answer, torch.tensor([first, last], device=table.device)).tolist()
                chunk[query[begin:end], answer[begin:end] - first] = -torch.inf
            best, columns = chunk.topk(min(top, last - first), 1)
            scores, entities = torch.cat([scores, best], 1), torch.cat([entities, columns + first], 1)
            scores, columns = scores.sort(dim=1, descending=True, stable=True)
            scores, entities = scores[:, :top], entities.gather(1, columns)[:, :top]
        marks = self._known.contains(found, entities)
        return [
            [self._answer(self.entities, *cells) for cells in zip(*columns, strict=True) if cells[1] > -torch.inf]
            for columns in zip(entities.tolist(), scores.tolist(), marks.tolist(), strict=True)
        ]

    @torch.no_grad()
    def _relations_of(self, rows: Sequence[tuple[int, int, int]], top: int, known: bool) -> list[list[Answer]]:
        n, device = len(self._graph.relations), self._model.device
        pairs = torch.tensor(rows, device=device).repeat_interleave(n, 0)
        relations = torch.arange(n, device=device).repeat(len(rows))
        scores = torch.cat([self._triple_scores(*x) for x in _chunks(pairs[:, 0], relations, pairs[:, 2])]).view(-1, n)
        queries = Queries(pairs[:, 0], relations, torch.zeros_like(relations, dtype=torch.bool))
        marks = self._known.contains(self._known.find(queries), pairs[:, 2:]).view(-1, n)
        result = []
        for values, is_known in zip(scores.tolist(), marks.tolist(), strict=True):
            allowed = [r for r in range(n) if known or not is_known[r]]
            best = heapq.nsmallest(top, allowed, key=lambda r: -values[r])
            result.append([self._answer(self.relations, r, values[r], is_known[r]) for r in best])
        return result

    def _triple_scores(self, heads: Tensor, relations: Tensor, tails: Tensor) -> Tensor:
        return self._model.score_hrt(heads, relations, tails).double()

    @staticmethod
    def _answer(names: Names, row: int, score: float, known: bool) -> Answer:
        return Answer(names.ids[row], names.label(row), score, known)


def open_model(folder: Path, progress: Progress | None = None) -> tuple[GraphSections, Graph, GraphModel]:
    """Settings, graph and best graph model of a run of kind graph or glove.

    Raises:
        SettingsError: the run has no graph model.
    """
    settings = KglmRun.open(folder).settings
    if not isinstance(settings, GloveSettings):
        run, graph, model = open_run(folder, progress)
        return run.settings, graph, model
    from blink.kglm.glove.runner import best_graph

    best, trained = best_graph(KglmRun(folder, settings), progress)
    if best is None or trained is None:
        raise SettingsError(f"{folder} is of words alone and has no graph; give a run with joint.alpha above 0")
    return settings, best, trained


def read_questions(path: str | Path) -> list[Question]:
    """Read questions, ``head<TAB>relation<TAB>tail`` lines with ``?`` for what is asked.

    Raises:
        MissingFileError: the file does not exist.
        DataError: a line is no question, or there is none.
    """
    file = require_file(path, "give a file of questions, head<TAB>relation<TAB>tail with ? for what is asked")
    questions = list(_questions(file))
    if not questions:
        raise DataError(f"{file} holds no questions; write lines head<TAB>relation<TAB>tail with ? for what is asked")
    return questions


def _questions(file: Path) -> Iterator[Question]:
    for number, line in enumerate(read_bytes(file).decode("utf-8-sig", "replace").split("\n"), 1):
        if not line.strip():
            continue
        fields = [field.strip() for field in line.rstrip("\r").split("\t")]
        asked = [field in UNKNOWN for field in fields]
        if len(fields) != 3 or sum(asked) != 1:
            raise DataError(f"{file}, line {number}: no question; write head<TAB>relation<TAB>tail with one ?, fix the line")
        yield Question(*(None if field in UNKNOWN else field for field in fields))


def _chunks(*columns: Tensor) -> Iterator[tuple[Tensor, ...]]:
    yield from zip(*(column.split(TRIPLES_AT_ONCE) for column in columns), strict=True)
