"""GloVe: counts against a plain loop, the loss against NumPy, steps against the authors' rule, the run and its resuming."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from blink.errors import BlinkError, DataError, MismatchError, SettingsError
from blink.kglm.config import DEFAULTS, load_settings
from blink.kglm.glove import counts as counting
from blink.kglm.glove.counts import Counts, PairBatch, PairStream, count_pairs, hold_out
from blink.kglm.glove.learner import HELD_OUT, WordLearner
from blink.kglm.glove.model import GloVe, Weighting, adagrad
from blink.kglm.glove.runner import WORD_VECTORS, GloveRunner
from blink.kglm.lm.corpus import encode
from blink.kglm.lm.vocabulary import Vocabulary
from blink.kglm.run import KglmRun, read_tensors
from blink.kglm.settings import Settings
from blink.runs.folder import METRICS_FILE, TRACE_FILE
from blink.runs.settings import read_settings_file
from blink.runs.trace import read_trace

WORDS = ("the", "king", "of", "norway", "sails", "river", "a")


def vocabulary(words: Sequence[str] = WORDS) -> Vocabulary:
    return Vocabulary(tuple(words), (1,) * len(words))


def plain_counts(lines: Sequence[Sequence[str]], words: Sequence[str], window: int) -> dict[tuple[int, int], float]:
    """Sums over ordered pairs of places, in the plainest way."""
    counts: dict[tuple[int, int], float] = defaultdict(float)
    for line in lines:
        positions = [words.index(w) for w in line if w in words]
        for i, j in itertools.permutations(range(len(positions)), 2):
            if abs(i - j) <= window:
                counts[positions[i], positions[j]] += 1 / abs(i - j)
    return counts


def random_counts(n: int = 300, size: int = 12, seed: int = 0) -> Counts:
    random = np.random.default_rng(seed)
    pairs = random.permutation(size * size)[: min(n, size * size)]
    values = random.lognormal(2, 2, len(pairs)).astype(np.float32)
    return Counts((pairs // size).astype(np.int32), (pairs % size).astype(np.int32), values, size)


@pytest.mark.quick
@given(
    st.lists(st.lists(st.sampled_from((*WORDS, "unknown")), max_size=12), min_size=1, max_size=5),
    st.integers(1, 6),
    st.integers(1, 9),
)
def test_counts_equal_those_of_a_plain_loop(lines: list[list[str]], window: int, at_once: int) -> None:
    expected = plain_counts(lines, WORDS, window)
    corpus = encode(lines, vocabulary())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counting, "CHUNK_TOKENS", at_once)
        if not expected:
            with pytest.raises(DataError, match="no two words of the vocabulary stand in one line"):
                count_pairs(corpus, window)
            return
        counts = count_pairs(corpus, window)
    count_of = dict(zip(zip(counts.words.tolist(), counts.contexts.tolist(), strict=True), counts.values.tolist(), strict=True))
    assert len(count_of) == len(counts)
    assert count_of == {pair: pytest.approx(value, rel=1e-6) for pair, value in expected.items()}


@pytest.mark.quick
def test_no_pair_crosses_the_end_of_a_line() -> None:
    counts = count_pairs(encode([["the", "king"], ["river", "sails"]], vocabulary()), 15)
    assert {(0, 1), (1, 0), (5, 4), (4, 5)} == set(zip(counts.words.tolist(), counts.contexts.tolist(), strict=True))


@pytest.mark.quick
@given(st.floats(0, 0.5), st.integers(0, 2**40))
def test_held_out_pairs_are_held_out_in_both_orders(fraction: float, seed: int) -> None:
    counts = count_pairs(encode([list(WORDS) * 3], vocabulary()), 9)
    fitted, held_out = hold_out(counts, fraction, seed)
    both = [set(zip(c.words.tolist(), c.contexts.tolist(), strict=True)) for c in (fitted, held_out)]
    assert not both[0] & both[1]
    assert len(fitted) + len(held_out) == len(counts)
    assert all((j, i) in pairs for pairs in both for i, j in pairs)
    assert hold_out(counts, 0.0, seed)[1].values.size == 0


@pytest.mark.quick
def test_the_share_held_out_is_that_asked_for() -> None:
    counts = random_counts(90_000, 300)
    assert len(hold_out(counts, 0.1, 1)[1]) / len(counts) == pytest.approx(0.1, abs=0.005)
    first, second = (hold_out(counts, 0.1, seed)[1].words.tolist() for seed in (1, 2))
    assert first != second


def numpy_loss(model: GloVe, counts: Counts, x_max: float, power: float) -> float:
    """The objective as the paper writes it (eq. 8), in float64."""
    u, v, b, c = (
        t.weight.detach().double().numpy()
        for t in (model.words, model.contexts, model.word_bias, model.context_bias)  # type: ignore[union-attr]
    )
    total = 0.0
    for i, j, x in zip(counts.words, counts.contexts, counts.values.astype(np.float64), strict=True):
        weight = (x / x_max) ** power if x < x_max else 1.0
        total += weight * (u[i] @ v[j] + b[i, 0] + c[j, 0] - np.log(x)) ** 2
    return total / len(counts)


@pytest.mark.quick
@pytest.mark.parametrize(("x_max", "power"), [(100.0, 0.75), (10.0, 0.75), (3.0, 0.5)])
def test_the_loss_equals_a_numpy_reference(x_max: float, power: float) -> None:
    counts = random_counts()
    model = GloVe(12, 5, Weighting(x_max, power), seed=3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.7)
    batch = PairStream(counts, len(counts), 0).batch(0)
    expected = numpy_loss(model, counts, x_max, power)
    assert model(batch).item() == pytest.approx(expected, rel=1e-6)
    assert model.mean_loss(counts) == pytest.approx(expected, rel=1e-6)
    doubled = PairBatch(batch.words, batch.contexts, batch.values.double())
    assert model.double()(doubled).item() == pytest.approx(expected, abs=1e-10, rel=1e-10)


@pytest.mark.quick
def test_gradients_equal_finite_differences() -> None:
    counts = random_counts(20, 5)
    model = GloVe(5, 3, Weighting(10.0), seed=1).double()
    batch = PairStream(counts, 20, 0).batch(0)
    batch = PairBatch(batch.words, batch.contexts, batch.values.double())
    model(batch).backward()
    for parameter in model.parameters():
        assert parameter.grad is not None
        for index in itertools.product(*map(range, parameter.shape)):
            ends = []
            for move in (1e-5, -1e-5):
                with torch.no_grad():
                    parameter[index] += move
                    ends.append(float(model(batch)))
                    parameter[index] -= move
            assert float(parameter.grad[index]) == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=1e-6)


@pytest.mark.quick
def test_first_values_are_small_and_of_both_signs() -> None:
    model = GloVe(500, 20, Weighting(), seed=0)
    values = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert float(values.abs().max()) <= 0.5 / 20
    assert abs(float(values.mean())) < 1e-3
    assert not torch.equal(model.words.weight, model.contexts.weight)  # two tables
    assert torch.equal(model.vectors(), model.words.weight + model.contexts.weight)


@pytest.mark.quick
@pytest.mark.parametrize("sparse", [False, True])
def test_steps_are_those_of_the_authors_program(sparse: bool) -> None:
    """Of one pair a step: half the error's gradient, sums of squares from 1 on, 0.05 (stanfordnlp/GloVe, glove.c)."""
    counts = random_counts(30, 6)
    model = GloVe(6, 4, Weighting(10.0), seed=2, sparse=sparse)
    u, v, b, c = (p.detach().double().numpy().copy() for p in model.parameters())
    sums = [np.ones_like(x) for x in (u, v, b, c)]
    optimizer = adagrad(list(model.parameters()), 0.05, 1.0, 1)
    stream = PairStream(counts, 1, 0)
    for step in range(60):
        batch = stream.batch(step)
        optimizer.zero_grad()
        model(batch).backward()
        optimizer.step()
        i, j, x = int(batch.words), int(batch.contexts), float(batch.values)
        error = u[i] @ v[j] + b[i, 0] + c[j, 0] - np.log(x)
        pull = min(1, (x / 10) ** 0.75) * error
        slopes = [(u, i, pull * v[j]), (v, j, pull * u[i]), (b, i, np.array([pull])), (c, j, np.array([pull]))]
        for (table, row, slope), total in zip(slopes, sums, strict=True):
            total[row] += slope**2
            table[row] -= 0.05 * slope / np.sqrt(total[row])
    for parameter, expected in zip(model.parameters(), (u, v, b, c), strict=True):
        np.testing.assert_allclose(parameter.detach().numpy(), expected, atol=2e-5)


@pytest.mark.quick
def test_a_batch_of_many_takes_the_step_of_their_summed_gradient() -> None:
    counts = random_counts(64, 8)
    model = GloVe(8, 3, Weighting(10.0), seed=2)
    before = model.words.weight.detach().double().numpy().copy()
    batch = PairStream(counts, 64, 0).batch(0)
    errors = (model.weighting.of(batch.values) * model.errors(batch)).detach().double().numpy()
    slopes = np.zeros_like(before)
    np.add.at(slopes, batch.words.numpy(), errors[:, None] * model.contexts.weight.detach().double().numpy()[batch.contexts])
    model(batch).backward()
    adagrad(list(model.parameters()), 0.05, 1.0, 64).step()
    np.testing.assert_allclose(model.words.weight.detach().numpy(), before - 0.05 * slopes / np.sqrt(1 + slopes**2), atol=1e-5)


@pytest.mark.quick
def test_each_pass_has_each_pair_once_in_another_order() -> None:
    counts = random_counts(60, 12)
    stream = PairStream(counts, 10, seed=4)
    passes = [[stream.batch(n) for n in range(p * 6, p * 6 + 6)] for p in range(2)]
    pairs_by_epoch = [[(int(i), int(j)) for b in one for i, j in zip(b.words, b.contexts, strict=True)] for one in passes]
    everything = sorted(zip(counts.words.tolist(), counts.contexts.tolist(), strict=True))
    assert sorted(pairs_by_epoch[0]) == sorted(pairs_by_epoch[1]) == everything
    assert pairs_by_epoch[0] != pairs_by_epoch[1]
    assert torch.equal(PairStream(counts, 10, seed=4).batch(9).words, passes[1][3].words)


# -- runs ----------------------------------------------------------------------------------------------------------------


def text(path: Path, lines: int = 60, seed: int = 0) -> Path:
    """Two groups of words that never meet."""
    random = np.random.default_rng(seed)
    groups = [[f"{name}{i}" for i in range(9)] for name in ("sea", "hill")]
    path.write_text("\n".join(" ".join(random.choice(groups[n % 2], 14)) for n in range(lines)) + "\n", encoding="utf-8")
    return path


def settings(tmp_path: Path, *more: str, **values: Any) -> Settings:
    if not (tmp_path / "text.txt").exists():
        text(tmp_path / "text.txt")
    changes = {
        "data.text": str(tmp_path / "text.txt"), "joint.alpha": 0.0, "words.dim": 6, "words.batch_size": 32,
        "counts.window": 3, "counts.held_out": 0.1, "vocabulary.least_count": 1, "train.epochs": 4, "stop.every": 1,
        "stop.patience": 0, "train.log_steps": 1, **values,
    }  # fmt: skip
    return load_settings("glove", None, [f"--{k}={v}" for k, v in changes.items()]).replace({})


def best(folder: Path) -> dict[str, torch.Tensor]:
    return read_tensors(folder / "best" / "model.safetensors")


def test_a_run_of_words_equals_a_plain_loop_bit_for_bit(tmp_path: Path) -> None:
    """Whether a graph is named makes no difference, for ``joint.alpha`` is 0."""
    options = settings(tmp_path)
    GloveRunner().train(options, tmp_path / "run")
    GloveRunner().train(
        options.replace({"data.graph": "nowhere", "joint.mu": 1.0, "joint.coupling": "hard"}), tmp_path / "other"
    )
    from blink.kglm.glove.inputs import read_text
    from blink.runs.seeds import seed_for

    words = read_text(options)
    model = GloVe(len(words.vocabulary.words), 6, Weighting(options.words.x_max, options.words.power), options.seed)
    stream = PairStream(words.fitted, 32, seed_for(options.seed, "pairs"))
    optimizer = adagrad(list(model.parameters()), options.words.lr, 1.0, 32)
    states, losses = [], []
    for step in range(4 * len(stream)):
        optimizer.zero_grad()
        model(stream.batch(step)).backward()
        optimizer.step()
        if (step + 1) % len(stream) == 0:
            states.append({k: v.clone() for k, v in model.state_dict().items()})
            losses.append(model.mean_loss(words.held_out))
    expected = states[int(np.argmin(losses))]
    for folder in ("run", "other"):
        result = best(tmp_path / folder)
        assert result.keys() == {f"glove.{k}" for k in expected}
        assert all(torch.equal(result[f"glove.{k}"], v) for k, v in expected.items())
    points = [row[HELD_OUT] for row in read_trace(tmp_path / "run" / TRACE_FILE) if row["kind"] == "validation"]
    assert points == losses


def test_losses_fall_and_groups_come_apart(tmp_path: Path) -> None:
    options = settings(tmp_path, **{"train.epochs": 20, "words.lr": 0.2, "counts.held_out": 0.02})
    metrics = GloveRunner().train(options, tmp_path / "run")
    assert metrics["last_epoch_loss"] < 0.5 * metrics["first_epoch_loss"]
    assert metrics["loss_ratio"] == pytest.approx(metrics["last_epoch_loss"] / metrics["first_epoch_loss"])
    written = GloveRunner().export(tmp_path / "run", tmp_path / "out")
    lines = (tmp_path / "out" / WORD_VECTORS).read_text(encoding="utf-8").splitlines()
    assert written["words"] == len(lines) == 18
    vectors = {line.split()[0]: np.array(line.split()[1:], dtype=float) for line in lines}
    state = best(tmp_path / "run")
    order = Vocabulary.load(tmp_path / "run" / "vocabulary.tsv").words
    sums = (state["glove.words.weight"] + state["glove.contexts.weight"]).numpy()
    np.testing.assert_allclose(np.stack([vectors[w] for w in order]), sums, rtol=1e-4, atol=1e-6)
    unit = {word: vector / np.linalg.norm(vector) for word, vector in vectors.items()}
    cosines = {(a, b): unit[a] @ unit[b] for a, b in itertools.combinations(unit, 2)}
    within = [c for (a, b), c in cosines.items() if a[:3] == b[:3]]
    between = [c for (a, b), c in cosines.items() if a[:3] != b[:3]]
    assert np.mean(within) > np.mean(between) + 0.2
    assert {"curves.png", METRICS_FILE, "settings.yaml"} <= {p.name for p in (tmp_path / "run").iterdir()}


def test_patience_ends_a_run_and_the_best_state_is_kept(tmp_path: Path) -> None:
    options = settings(tmp_path, **{"train.epochs": 40, "words.lr": 0.8, "stop.patience": 2, "words.dim": 12})
    metrics = GloveRunner().train(options, tmp_path / "run")
    points = [r for r in read_trace(tmp_path / "run" / TRACE_FILE) if r["kind"] == "validation"]
    assert len(points) < 40
    assert len(points) == metrics["epoch"] + 2
    assert metrics[HELD_OUT] == min(p[HELD_OUT] for p in points)
    assert GloveRunner().evaluate(tmp_path / "run", "valid") == {HELD_OUT: pytest.approx(metrics[HELD_OUT], rel=1e-9)}


def test_sparse_gradients_give_the_same_vectors(tmp_path: Path) -> None:
    options = settings(tmp_path)
    GloveRunner().train(options, tmp_path / "dense")
    GloveRunner().train(options.replace({"words.sparse": True}), tmp_path / "sparse")
    one, other = best(tmp_path / "dense"), best(tmp_path / "sparse")
    for name in one:
        torch.testing.assert_close(one[name], other[name], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.text": ""}, "data.text is not set"),
        ({"data.text": "EMPTY"}, r"is empty \(0 bytes\)"),
        ({"data.text": "nowhere.txt"}, "there is no nowhere.txt"),
        ({"vocabulary.least_count": 10_000}, "no word is left of 18"),
        ({"joint.alpha": 1.5}, r"joint.alpha is 1.5; give a share from 0"),
        ({"joint.coupling": "tie"}, "joint.coupling is 'tie'"),
        ({"counts.window": 0}, "counts.window is 0; it must be at least 1"),
        ({"counts.held_out": 0.9}, "counts.held_out is 0.9; give a share from 0 up to 0.5"),
        ({"words.dim": 0}, "words.dim is 0"),
    ],
)
def test_settings_that_cannot_be_are_one_clear_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    (tmp_path / "empty.txt").touch()
    changes = {k: str(tmp_path / "empty.txt") if v == "EMPTY" else v for k, v in changes.items()}
    with pytest.raises(BlinkError, match=message) as error:
        GloveRunner().train(settings(tmp_path).replace(changes), tmp_path / "run")
    assert "\n" not in str(error.value)
    GloveRunner().train(settings(tmp_path), tmp_path / "run")  # the folder is free for settings that are mended


def test_another_text_is_noticed(tmp_path: Path) -> None:
    options = settings(tmp_path)
    GloveRunner().train(options, tmp_path / "run")
    text(tmp_path / "text.txt", seed=5)
    (tmp_path / "text.txt").open("a").write("newword another\n")
    with pytest.raises(MismatchError, match="other contents of"):
        GloveRunner().train(options.replace({"train.epochs": 6}), tmp_path / "run", resume=True)
    with pytest.raises(MismatchError, match="trained on another text"):
        GloveRunner().evaluate(tmp_path / "run", "valid")
    with pytest.raises(SettingsError, match="of words alone, which have held-out pairs but no test"):
        GloveRunner().evaluate(tmp_path / "run", "test")


def test_the_commands(tmp_path: Path, blink: Callable[..., tuple[int, str, str]]) -> None:
    text(tmp_path / "text.txt")
    run = tmp_path / "run.yaml"
    run.write_text(
        f"kind: glove\ndata: {{text: {tmp_path / 'text.txt'}}}\njoint: {{alpha: 0}}\nvocabulary: {{least_count: 1}}\n"
    )
    status, _, err = blink("kglm", "train", run, "--out", tmp_path / "run", "--words.dim", 4, "--train.epochs", 2)
    assert status == 0, err
    assert "18 words" in err
    status, out, err = blink("kglm", "eval", tmp_path / "run", "--split", "valid", "--json")
    assert (status, list(json.loads(out))) == (0, [HELD_OUT])
    assert blink("kglm", "export", tmp_path / "run", "--out", tmp_path / "out")[0] == 0
    assert len((tmp_path / "out" / WORD_VECTORS).read_text(encoding="utf-8").splitlines()) == 18
    status, _, err = blink("kglm", "train", run, "--out", tmp_path / "no", "--words.dims", 4)
    assert (status, "did you mean words.dim" in err) == (1, True)


@pytest.mark.quick
def test_the_settings_of_the_graph_are_those_of_kind_graph() -> None:
    graph, glove = (read_settings_file(DEFAULTS / f"{kind}.yaml") for kind in ("graph", "glove"))
    for section in ("model", "train", "negatives", "stop", "eval"):
        assert glove[section].keys() == graph[section].keys()
    assert graph["data"].keys() <= glove["data"].keys()
    differing = {f"{s}.{k}" for s in graph if isinstance(graph[s], dict) for k, v in graph[s].items() if glove[s][k] != v}
    assert differing == {"model.dim"}


def test_words_are_learned_on_a_device_that_is_named(tmp_path: Path) -> None:
    from blink.kglm.glove.inputs import read_text

    options = settings(tmp_path, device="cpu")
    trainer = WordLearner(read_text(options), KglmRun(tmp_path / "run", options))
    assert {p.device.type for p in trainer.side.model.parameters()} == {"cpu"}
    with pytest.raises(SettingsError, match="device is 'cuda:99'"):
        WordLearner(read_text(options), KglmRun(tmp_path / "run", options.replace({"device": "cuda:99"})))
