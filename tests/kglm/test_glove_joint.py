"""Words and a graph together: which words stand for which entities, shared rows, losses of the alignment, and the joint run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from blink.errors import BlinkError, DataError, SettingsError
from blink.kglm.glove.alignment import Alignment, align, link_word, mark_lines
from blink.kglm.glove.counts import PairBatch
from blink.kglm.glove.coupling import Coupling, PairDraws, TiedTable, contrast_loss, distance_loss
from blink.kglm.glove.joint import JointLearner
from blink.kglm.glove.learner import HELD_OUT, WordLearner
from blink.kglm.glove.model import GloVe, Weighting
from blink.kglm.glove.runner import MAP_FILE, WORD_VECTORS, GloveRunner
from blink.kglm.graph.runner import GraphRunner
from blink.kglm.lm.vocabulary import Vocabulary
from blink.kglm.lm.words import text_words
from blink.kglm.run import KglmRun, read_tensors
from blink.kglm.settings import Settings
from blink.kglm.text_init.tables import TextRow
from blink.runs.folder import TRACE_FILE
from blink.runs.loop import Loop
from blink.runs.progress import Progress
from blink.runs.signals import Interrupted
from blink.runs.trace import read_trace
from tests.kglm.glove_toys import data, settings

# -- alignment -----------------------------------------------------------------------------------------------------------


def vocabulary(*words: str) -> Vocabulary:
    return Vocabulary(words, (1,) * len(words))


def spelt(alignment: Alignment, words: Vocabulary) -> dict[int, list[str]]:
    return {
        int(e): [words.words[w] for w in alignment.words[alignment.starts[i] : alignment.starts[i + 1]]]
        for i, e in enumerate(alignment.entities)
    }


@pytest.mark.quick
def test_the_best_way_counts() -> None:
    words = vocabulary("oslo", "lake", "garda", "entityq3", "norway")
    names = [
        TextRow(1, "Q1", "Oslo"), TextRow(2, "Q2", "Lake Garda"), TextRow(3, "Q3", "Norway"), TextRow(4, "Q4", "Unseen"),
    ]  # fmt: skip
    alignment = align(["Q4", "Q3", "Q2", "Q1"], words, names)
    assert spelt(alignment, words) == {1: ["entityq3"], 2: ["lake", "garda"], 3: ["oslo"]}
    assert alignment.report() == {"pairs": 3, "token": 1, "title": 1, "words": 1, "coverage": 0.75, "mean_confidence": 1.0}
    assert spelt(align(["Q3", "Q2"], words, names, representations=["title"]), words) == {0: ["norway"]}


@pytest.mark.quick
@pytest.mark.parametrize(
    ("degrees", "representation", "confidence"),
    [({"Q1": 0}, "words", 0.5), ({"Q1": 8}, "title", 0.9), ({"Q1": 7}, "words", 8 / 9), ({"Q2": 99}, "words", 1 / 101)],
)
def test_an_ambiguous_title_needs_nine_tenths_of_its_use(
    degrees: dict[str, float], representation: str, confidence: float
) -> None:
    """The other one only has the name as an alias, and is not in the graph."""
    words = vocabulary("java")
    names = [TextRow(1, "Q1", "Java"), TextRow(2, "Q2", "Java SE", synonyms=("JAVA!",))]
    alignment = align(["Q1"], words, names, degrees)
    assert alignment.report()[representation] == 1
    assert alignment.confidence[0] == pytest.approx(confidence)


@pytest.mark.quick
def test_a_title_is_as_sure_as_many_of_its_words_are_known() -> None:
    alignment = align(["Q1"], vocabulary("lake"), [TextRow(1, "Q1", "Lake of Garda")])
    assert alignment.confidence[0] == pytest.approx(1 / 3)


@pytest.mark.quick
def test_alignments_that_cannot_be() -> None:
    with pytest.raises(DataError, match="none of the 1 entities has a word of the text"):
        align(["Q1"], vocabulary("lake"))
    with pytest.raises(SettingsError, match=r"joint\.ways has 'anchor'; allowed are token, title, words"):
        align(["Q1"], vocabulary("lake"), representations=["anchor"])


@pytest.mark.quick
def test_only_a_word_that_surely_means_an_entity_is_shared_with_it() -> None:
    words = vocabulary("java", "lake", "oslo")
    names = [TextRow(1, "Q1", "Java"), TextRow(2, "Q2", "Java"), TextRow(3, "Q3", "Lake Garda"), TextRow(4, "Q4", "Oslo")]
    both = align(["Q1", "Q2", "Q3", "Q4"], words, names, {"Q2": 20.0})
    assert both.report()["pairs"] == 4
    assert spelt(both.singles(), words) == {1: ["java"], 3: ["oslo"]}
    # Ids that are spelt alike have the same token; the first entity has it.
    tokens = align(["a-b", "ab"], vocabulary(link_word("ab")))
    assert (len(tokens), tokens.singles().entities.tolist()) == (2, [0])


@pytest.mark.quick
def test_tokens_are_put_before_titles_or_else_before_the_line() -> None:
    lines = [text_words("Lake Garda is a lake; Lake Garda lies in Italy."), text_words("The Nile flows"), ["x"], []]
    titles = {"Q1": "Lake Garda", "Q2": "river Nile"}
    marked = mark_lines(lines, ["Q1", "Q2", "", "Q1"], titles)
    assert " ".join(marked[0]) == "entityq1 lake garda is a lake entityq1 lake garda lies in italy"
    assert marked[1:] == [["entityq2", "the", "nile", "flows"], ["x"], []]
    assert text_words("see ENTITY/Q42 there")[1] == link_word("Q42")
    assert link_word("/m/0x_1") == "".join(text_words("ENTITY//m/0x_1"))


@pytest.mark.quick
def test_batches_of_pairs() -> None:
    words = vocabulary("oslo", "lake", "garda")
    names = [TextRow(1, "Q1", "Oslo"), TextRow(2, "Q2", "Lake Garda")]
    alignment = align(["Q1", "Q2"], words, names)
    batch = alignment.batch(np.array([1, 0]))
    rows = torch.arange(6.0).view(3, 2)  # of lake, garda, oslo
    assert batch.words.tolist() == [1, 2, 0]
    assert batch.means(rows).tolist() == [[1.0, 2.0], [4.0, 5.0]]
    draws = PairDraws(alignment, 9, seed=1)
    assert sorted(draws.batch(3).entities.tolist()) == [0, 1]  # each once
    assert draws.batch(3).entities.tolist() == PairDraws(alignment, 9, seed=1).batch(3).entities.tolist()


# -- coupling ------------------------------------------------------------------------------------------------------------


def pairs_of(entities: list[int], words: list[int], count: int) -> Alignment:
    n = len(entities)
    return Alignment(np.array(entities), np.arange(n + 1), np.array(words), np.ones(n, np.float32), np.zeros(n, np.int8), count)


@pytest.mark.quick
@pytest.mark.parametrize("sparse", [False, True])
def test_a_shared_row_is_one_parameter(sparse: bool) -> None:
    entities, words = nn.Parameter(torch.randn(4, 3)), torch.randn(5, 3)
    table = TiedTable(entities, words, pairs_of([3, 0], [1, 4], 4), sparse)
    assert table.weight.shape == (3, 3)  # no copies of shared rows
    assert [name for name, _ in table.named_parameters()] == ["weight"]
    expected = words.clone()
    expected[1], expected[4] = entities.detach()[3], entities.detach()[0]
    assert torch.equal(table.all(), expected)
    table(torch.tensor([1, 1, 2])).sum().backward()
    dense = entities.grad.to_dense() if entities.grad is not None and entities.grad.is_sparse else entities.grad
    assert dense is not None
    assert dense.tolist() == [[0.0] * 3, [0.0] * 3, [0.0] * 3, [2.0] * 3]
    with torch.no_grad():
        entities[3] += 1
    assert torch.equal(table(torch.tensor([1]))[0], entities.detach()[3])


@pytest.mark.quick
def test_shared_rows_need_one_width() -> None:
    with pytest.raises(SettingsError, match=r"an entity has shape \(4,\), a word \(3,\); set words.dim to model.dim"):
        TiedTable(nn.Parameter(torch.zeros(2, 4)), torch.zeros(5, 3), pairs_of([0], [1], 2))


def word_model(words: int = 5, width: int = 3) -> GloVe:
    model = GloVe(words, width, Weighting(), seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 1)
    return model


@pytest.mark.quick
def test_the_soft_coupling_is_the_formula() -> None:
    model, alignment = word_model(), pairs_of([2, 0], [1, 4], 3)
    alignment.confidence[:] = (0.5, 1.0)
    coupling = Coupling("soft", alignment, 4, 3, seed=1)
    entities = torch.randn(3, 4)
    batch = alignment.batch(np.array([0, 1]))
    assert coupling.map is not None
    expected = 0.0
    for entity, word, confidence in ((2, 1, 0.5), (0, 4, 1.0)):
        target = (model.words.weight[word] + model.contexts.weight[word]) / 2
        expected += confidence * float(((coupling.map @ entities[entity] - target) ** 2).sum().detach()) / 2
    assert coupling(batch, entities[batch.entities], model).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.quick
def test_the_map_begins_by_keeping_lengths() -> None:
    assert torch.equal(Coupling("soft", pairs_of([0], [0], 1), 3, 3).map.data, torch.eye(3))  # type: ignore[union-attr]
    narrow = Coupling("soft", pairs_of([0], [0], 1), 6, 4).map.data  # type: ignore[union-attr]
    wide = Coupling("soft", pairs_of([0], [0], 1), 4, 6).map.data  # type: ignore[union-attr]
    torch.testing.assert_close(narrow @ narrow.T, torch.eye(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(wide.T @ wide, torch.eye(4), atol=1e-5, rtol=0)
    assert Coupling("soft", pairs_of([0], [0], 1), 3, 3, mapping="identity").map is None
    with pytest.raises(SettingsError, match=r"joint\.map identity needs equal dimensions: an entity has 4, a word 3"):
        Coupling("soft", pairs_of([0], [0], 1), 4, 3, mapping="identity")


@pytest.mark.quick
def test_the_contrast_does_not_fall_by_shrinking() -> None:
    torch.manual_seed(0)
    mapped, targets, confidence = torch.randn(6, 4), torch.randn(6, 4), torch.ones(6)
    loss = contrast_loss(mapped, targets, confidence, 0.1)
    torch.testing.assert_close(contrast_loss(mapped * 1e-3, targets * 1e-3, confidence, 0.1), loss, atol=1e-5, rtol=1e-5)
    assert distance_loss(mapped * 1e-3, targets * 1e-3, confidence, 0.1) < 1e-4 * distance_loss(
        mapped, targets, confidence, 0.1
    )
    assert contrast_loss(targets, targets, confidence, 0.001) < 1e-3
    assert contrast_loss(torch.ones(6, 4), targets, confidence, 1e6).item() == pytest.approx(math.log(6), abs=1e-3)
    unit = [x / x.norm(dim=1, keepdim=True) for x in (mapped, targets)]
    table = (unit[0] @ unit[1].T / 0.1).double().numpy()
    losses = [math.log(np.exp(table[i]).sum()) - table[i, i] for i in range(6)]
    back = [math.log(np.exp(table[:, i]).sum()) - table[i, i] for i in range(6)]
    assert loss.item() == pytest.approx((np.mean(losses) + np.mean(back)) / 2, rel=1e-4)


# -- runs ----------------------------------------------------------------------------------------------------------------


def best(folder: Path) -> dict[str, torch.Tensor]:
    return read_tensors(folder / "best" / "model.safetensors")


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data(tmp_path_factory.mktemp("graph"))


@pytest.mark.parametrize("more", [{}, {"train.type": "negative", "model.name": "transe"}])
def test_alpha_one_is_the_run_of_the_graph_bit_for_bit(graph: Path, tmp_path: Path, more: dict[str, Any]) -> None:
    GraphRunner().train(settings(graph, "graph", **more), tmp_path / "alone")
    changes = {"joint.alpha": 1.0, "joint.mu": 1.0, "joint.coupling": "hard", "data.text": "nowhere", **more}
    metrics = GloveRunner().train(settings(graph, **changes), tmp_path / "one")
    alone, one = best(tmp_path / "alone"), best(tmp_path / "one")
    assert alone.keys() == one.keys()
    assert all(torch.equal(alone[name], one[name]) for name in alone)
    assert "words" not in metrics


def test_a_side_without_weight_leaves_the_other_as_it_is_alone(graph: Path, tmp_path: Path) -> None:
    """Nothing that chance decides for one task depends on the other: uncoupled, taking turns, both learn as they do alone."""
    turns = {"joint.mode": "alternate", "joint.coupling": "none", "joint.word_steps": 2.0}
    GloveRunner().train(settings(graph, **turns), tmp_path / "both")
    GraphRunner().train(settings(graph, "graph"), tmp_path / "alone")
    both, alone = best(tmp_path / "both"), best(tmp_path / "alone")
    assert all(torch.equal(alone[name], both[name]) for name in alone)
    steps = 2 * max(row["step"] for row in read_trace(tmp_path / "both" / TRACE_FILE) if row["kind"] == "validation")
    trainer = word_trainer(settings(graph, **{"joint.alpha": 0.0}), tmp_path / "words")
    at_best = read_trace(tmp_path / "both" / TRACE_FILE)
    last = [row[HELD_OUT] for row in at_best if HELD_OUT in row][-1]
    for number in range(steps):
        trainer.side.gradients(number)
        trainer.side.move()
    assert trainer.side.held_out_loss() == last


def word_trainer(options: Settings, folder: Path) -> Any:
    from blink.kglm.glove.inputs import read_text

    return WordLearner(read_text(options), KglmRun(folder, options))


def joint_trainer(options: Settings, folder: Path) -> JointLearner:
    from blink.kglm.glove.inputs import aligned, read_text
    from blink.kglm.graph.readers import read_graph

    read, words = read_graph(options.data), read_text(options)
    return JointLearner(read, words, aligned(options, read, words), KglmRun(folder, options))


@pytest.mark.parametrize("alpha", [0.25, 0.5, 0.9])
def test_gradients_are_those_of_the_weighted_sum(graph: Path, tmp_path: Path, alpha: float) -> None:
    options = settings(graph, **{"joint.alpha": alpha, "joint.mu": 0.3, "model.entity_dropout": 0.0})
    trainer = joint_trainer(options, tmp_path / "run")
    batch = trainer._batches[0]
    trainer.model.train()
    losses = trainer._gradients(0)
    total = losses.pop("loss")
    gradients = {name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None}
    trainer.model.zero_grad(set_to_none=True)
    assert trainer.coupling is not None
    pairs = trainer._pairs.batch(0)
    entities = trainer.model.entity_tables[0][pairs.entities]
    loss = (
        alpha * trainer._loss(batch, None)
        + (1 - alpha) * trainer.side.model(trainer.side._stream.batch(0))
        + 0.3 * trainer.coupling(pairs, entities, trainer.side.model)
    )
    loss.backward()
    assert total == pytest.approx(loss.item(), rel=1e-5)
    assert losses.keys() == {"graph_loss", "word_loss", "alignment_loss"}
    for name, parameter in trainer.model.named_parameters():
        assert parameter.grad is not None, name
        torch.testing.assert_close(gradients[name], parameter.grad, atol=1e-6, rtol=1e-4)


COUPLED: list[dict[str, Any]] = [
    {},
    {"joint.map": "identity"},
    {"joint.coupling": "contrastive", "words.dim": 5},
    {"joint.coupling": "hard"},
    {"joint.mode": "alternate", "joint.word_steps": 1.5},
    {"joint.coupling": "hard", "joint.mode": "alternate", "model.name": "transe", "train.type": "negative",
     "model.sparse": True, "train.optimizer": "adagrad"},
    {"model.name": "rotate", "words.dim": 6},
]  # fmt: skip


class Stop(Progress):
    """Asks for the end after so many steps, as a signal would."""

    def __init__(self, after: int) -> None:
        super().__init__(step=self._count)
        self._remaining = after

    def _count(self, progress: Any) -> None:
        import os
        import signal

        self._remaining -= 1
        if self._remaining == 0:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("more", COUPLED, ids=lambda m: " ".join(str(v) for v in m.values()) or "soft")
def test_a_joint_run_that_was_stopped_goes_on_to_the_same_end(graph: Path, tmp_path: Path, more: dict[str, Any]) -> None:
    options = settings(graph, **more)
    uninterrupted = GloveRunner().train(options, tmp_path / "whole")
    assert uninterrupted["alignment"]["coverage"] == 1.0
    with pytest.raises(Interrupted):
        GloveRunner().train(options, tmp_path / "parts", progress=Stop(7))
    losses = GloveRunner().train(options, tmp_path / "parts", resume=True)
    one, other = best(tmp_path / "whole"), best(tmp_path / "parts")
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert losses["mrr"] == uninterrupted["mrr"]
    evaluated = GloveRunner().evaluate(tmp_path / "parts", "valid")
    assert evaluated["ranking"]["mrr"] == pytest.approx(uninterrupted["mrr"])
    assert evaluated[HELD_OUT] > 0
    written = GloveRunner().export(tmp_path / "parts", tmp_path / "out")
    lines = (tmp_path / "out" / WORD_VECTORS).read_text(encoding="utf-8").splitlines()
    assert (len(lines), written["entities"]) == (written["words"], 12)
    assert (tmp_path / "out" / MAP_FILE).is_file() == ("coupling.map" in one)
    assert {"entity_vectors.npy", "entity_ids.txt", "meta.json"} <= {p.name for p in (tmp_path / "out").iterdir()}


def test_shared_rows_learn_from_both_tasks(graph: Path, tmp_path: Path) -> None:
    options = settings(graph, **{"joint.coupling": "hard", "model.entity_dropout": 0.0})
    trainer = joint_trainer(options, tmp_path / "run")
    assert trainer.tied is not None
    assert len(trainer.tied) == 12
    entity, word = int(trainer.tied.entities[0]), int(trainer.tied.words[0])
    table = trainer.model.entity_tables[0]
    trainer.side.model(PairBatch(torch.tensor([word]), torch.tensor([0]), torch.tensor([3.0]))).backward()
    assert table.grad is not None
    assert [i for i, row in enumerate(table.grad) if row.abs().sum() > 0] == [entity]
    before = table.detach().clone()
    trainer._optimisers.step(0.1)
    assert torch.equal(trainer.side.model.words(torch.tensor([word]))[0], table.detach()[entity])
    assert not torch.equal(before[entity], table.detach()[entity])
    GloveRunner().train(options, tmp_path / "whole")
    GloveRunner().export(tmp_path / "whole", tmp_path / "out")
    vectors = np.load(tmp_path / "out" / "entity_vectors.npy")
    state = best(tmp_path / "whole")
    words = Vocabulary.load(tmp_path / "whole" / "vocabulary.tsv").words
    lines = dict(zip(words, (tmp_path / "out" / WORD_VECTORS).read_text(encoding="utf-8").splitlines(), strict=True))
    ids = (tmp_path / "out" / "entity_ids.txt").read_text(encoding="utf-8").split()
    index = words.index("oslo")
    expected = vectors[ids.index("oslo")] + state["glove.contexts.weight"][index].numpy()
    np.testing.assert_allclose(np.array(lines["oslo"].split()[1:], dtype=float), expected, rtol=1e-4, atol=1e-5)


def test_the_alignment_brings_entities_to_their_words(graph: Path, tmp_path: Path) -> None:
    def distance(mu: float) -> float:
        options = settings(graph, **{"joint.mu": mu, "joint.map": "identity", "train.epochs": 20, "stop.every": 20})
        trainer = joint_trainer(options, tmp_path / str(mu))
        Loop(trainer, trainer.folder, trainer.folder.about()).run()
        entities = torch.from_numpy(trainer.alignment.entities)
        batch = trainer.alignment.batch(np.arange(len(entities)))
        with torch.no_grad():
            targets = batch.means(trainer.side.model.vectors(batch.words) / 2)
            return float((trainer.model.entity_tables[0][entities] - targets).square().sum(1).mean())

    assert distance(1.0) < 0.5 * distance(1e-6)


def test_tokens_beside_titles_represent_entities(graph: Path, tmp_path: Path) -> None:
    options = settings(graph, **{"data.text_ids": str(graph / "subjects"), "vocabulary.least_count": 5})
    metrics = GloveRunner().train(options, tmp_path / "run")
    assert {k: metrics["alignment"][k] for k in ("token", "title")} == {"token": 8, "title": 4}
    assert "entityoslo" in Vocabulary.load(tmp_path / "run" / "vocabulary.tsv").words


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"joint.coupling": "hard", "words.dim": 7}, "a shared row needs equal dimensions"),
        ({"joint.map": "identity", "words.dim": 7}, "joint.map identity needs equal dimensions"),
        ({"joint.mode": "both"}, "joint.mode is 'both'"),
        ({"joint.mu": -1.0}, "joint.mu is -1.0; it must be at least 0"),
        ({"data.graph": ""}, "data.graph is not set"),
        ({"data.entity_names": ""}, "none of the 12 entities has a word of the text"),
    ],
)
def test_joint_settings_that_cannot_be(graph: Path, tmp_path: Path, more: dict[str, Any], message: str) -> None:
    with pytest.raises(BlinkError, match=message) as error:
        GloveRunner().train(settings(graph, **more), tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run" / TRACE_FILE).exists()
