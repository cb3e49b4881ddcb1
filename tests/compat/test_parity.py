"""The original's numbers: golden files that it made itself, and checkpoints of many shapes against a plain computation."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from blink.compat.elq.run import main
from blink.data.mention_files import read_samples
from blink.data.windows import window_around_gold
from blink.evaluation.matching import EntitySpan, count_matches
from blink.kb.catalogue import Catalogue
from blink.kb.index import ExactIndex, read_index
from blink.linking.candidates import CandidateGenerator
from blink.linking.mention_detector import DetectorOptions, MentionDetector
from blink.linking.scoring import joint_scores
from blink.model.backends.torch_backend import TorchBackend
from blink.model.biencoder import BiEncoder
from blink.model.original import OriginalFiles, read_original, read_tensors
from blink.model.tokenizer import Tokenizer, pad
from tests.compat.goldens import SETS, lines, runs
from tests.compat.originals import Reference, Shape

TOLERANCE = 1e-4


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def model(parity: Path) -> BiEncoder:
    files = OriginalFiles(parity / "pytorch_model.bin", parity / "training_params.txt")
    return read_original(files, context=True, candidate=True)


@pytest.fixture(scope="module")
def vectors(parity: Path) -> torch.Tensor:
    return read_tensors(parity / "all_entities.t7", "")


@pytest.fixture(scope="module")
def catalogue(parity: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the catalogue: opening one writes a file next to it."""
    copied = tmp_path_factory.mktemp("catalogue") / "entity.jsonl"
    copied.write_bytes((parity / "entity.jsonl").read_bytes())
    return copied


def golden(parity: Path, name: str) -> dict[str, np.ndarray]:
    with np.load(parity / "golden" / f"{name}.npz") as arrays:
        return dict(arrays)


# --- predictions through the script ---------------------------------------------------------------------------------


def command(parity: Path, catalogue: Path, run: dict[str, Any], out: Path) -> list[str]:
    """The command line of a golden run."""
    mode = "top_entity_by_mention" if run["threshold_type"] == "top_entity_by_mention" else run["threshold_type"]
    files = {
        "biencoder_model": parity / "pytorch_model.bin", "biencoder_config": parity / "training_params.txt",
        "entity_catalogue": catalogue, "test_mentions": parity / f"{SETS[run['set']]}.jsonl",
        "save_preds_dir": out,
    }  # fmt: skip
    settings = {
        "compat": "elq", "threshold": run["threshold"], "threshold_type": mode,
        "mention_threshold": run.get("mention_threshold"), "num_cand_mentions": run.get("num_cand_mentions"),
        "num_cand_entities": run.get("num_cand_entities"), "eval_batch_size": run.get("eval_batch_size"),
        "max_context_length": run.get("max_context_length"),
    }  # fmt: skip
    kind = run.get("faiss_index", "none")
    if kind == "none":
        files["entity_encoding"] = parity / "all_entities.t7"
    else:
        files["index_path"] = parity / f"faiss_{kind}_index.pkl"
        settings["faiss_index"] = kind
    options = {**files, **{name: value for name, value in settings.items() if value is not None}}
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


def assert_same_predictions(parity: Path, run: dict[str, Any], out: Path) -> None:
    expected = lines(parity / "golden" / f"pred_{run['set']}_{run['run']}.jsonl")
    predictions = lines(out / "biencoder_outs.jsonl")
    assert len(predictions) == len(expected)
    for prediction, theirs in zip(predictions, expected, strict=True):
        assert list(prediction) == list(theirs)
        np.testing.assert_allclose(prediction.pop("scores"), theirs.pop("scores"), atol=TOLERANCE, rtol=0)
        assert prediction == theirs


def assert_same_counts(run: dict[str, Any], out: Path, printed: str) -> None:
    with np.load(out / "predictions.npz") as arrays:
        if "num_pruned_mentions" in run:
            assert arrays["offsets"][-1] == run["num_pruned_mentions"]
    if run["set"] != "labelled":
        assert sum(len(row["pred_triples"]) for row in lines(out / "biencoder_outs.jsonl")) == run["num_predicted_total"]
        assert printed == ""
        return
    precision = re.findall(r"^precision = (\d+) / (\d+) ", printed, re.MULTILINE)
    recall = re.findall(r"^recall = (\d+) / (\d+) ", printed, re.MULTILINE)
    names = ("weak", "weak_from_input_window", "strong", "strong_from_input_window")
    for name, (hits, predicted), (_, gold) in zip(names, precision, recall, strict=True):
        window = "_from_input_window" if "window" in name else ""
        counts = (run[f"num_correct_{name}"], run["num_predicted"], run[f"num_gold{window}"])
        assert (int(hits), int(predicted), int(gold)) == counts, name


@pytest.mark.parametrize("run", runs())
def test_predictions_are_those_of_the_original(parity: Path, catalogue: Path, run: dict[str, Any], tmp_path: Path, capsys):
    assert main(command(parity, catalogue, run, tmp_path)) == 0
    assert_same_predictions(parity, run, tmp_path)
    assert_same_counts(run, tmp_path, capsys.readouterr().out)


@pytest.mark.parametrize("run", [r for r in runs() if "thr-2.9_ctx16" in str(r.id)] or runs())
def test_the_script_does_the_same_without_pythonpath(
    parity: Path, catalogue: Path, root: Path, run: dict[str, Any], tmp_path: Path
):
    arguments = [sys.executable, "blink/main_dense_all_ents.py", *command(parity, catalogue, run, tmp_path)]
    done = subprocess.run(
        arguments, cwd=root, capture_output=True, text=True, env={"PATH": "", "OMP_NUM_THREADS": "1"}, check=False
    )
    assert done.returncode == 0, done.stderr
    assert_same_predictions(parity, run, tmp_path)
    assert_same_counts(run, tmp_path, done.stdout)


@pytest.mark.parametrize(
    "run", [r for r in runs() if str(r.id) in ("labelled-joint_thr-4.5", "labelled-joint_thr-2.9")] or runs()
)
def test_errors_are_the_rows_that_are_not_flawless(parity: Path, catalogue: Path, run: dict[str, Any], tmp_path: Path):
    assert main(command(parity, catalogue, run, tmp_path)) == 0
    rows = lines(tmp_path / "biencoder_outs.jsonl")

    def hits(row: dict[str, Any]) -> int:
        gold, predicted = ([EntitySpan(*t) for t in row[key]] for key in ("gold_triples", "pred_triples"))
        return count_matches(gold, predicted).weak

    wrong = [r for r in rows if not hits(r) == len(r["gold_triples"]) == len(r["pred_triples"])]
    assert lines(tmp_path / "biencoder_errors.jsonl") == wrong
    assert float((tmp_path / "runtime.txt").read_text()) > 0


def test_arrays_of_the_saved_predictions_are_the_original_s(parity: Path, catalogue: Path, tmp_path: Path, capsys):
    """Also: they need no pickles."""
    run = next(r.values[0] for r in runs() if r.values[0] and r.values[0]["run"] == "joint_thr-4.5")
    assert main(command(parity, catalogue, run, tmp_path)) == 0
    want = golden(parity, "labelled_base")
    with np.load(tmp_path / "predictions.npz", allow_pickle=False) as arrays:
        saved = dict(arrays)
    for name, theirs in {"offsets": "mention_offsets", "mention_bounds": "mention_bounds", "nns": "cand_ids"}.items():
        np.testing.assert_array_equal(saved[name], want[theirs])
    for name, theirs in {"mention_scores": "mention_logits", "cand_scores": "cand_logits", "dists": "joint_scores"}.items():
        np.testing.assert_allclose(saved[name], want[theirs], atol=TOLERANCE, rtol=0)


# --- without --compat elq -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize(
    "flags",
    [
        ["--threshold", "-inf"],
        ["--threshold_type", "top_entity_by_mention", "--mention_threshold", "-20"],
        ["--final_thresholding", "top_joint_by_mention"],
    ],
    ids=["joint", "top_entity", "top_joint"],
)
def test_no_span_touches_special_tokens_unless_asked_for(
    parity: Path, catalogue: Path, name: str, flags: list[str], tmp_path: Path, capsys
):
    run = {"set": name, "threshold": "-4.5", "threshold_type": "joint"}
    plain = [w for w in command(parity, catalogue, run, tmp_path) if w not in ("--compat", "elq")]
    plain = [w for w in plain if w not in ("--threshold", "-4.5", "--threshold_type", "joint")]
    assert main([*plain, *flags]) == 0
    samples = list(read_samples(parity / f"{SETS[name]}.jsonl"))
    total = 0
    for sample, row in zip(samples, lines(tmp_path / "biencoder_outs.jsonl"), strict=True):
        text_ids = list(sample.token_ids) if sample.token_ids else row["tokens"]
        offsets = [i for i in range(len(text_ids) + 1) if text_ids[i : i + len(row["tokens"])] == row["tokens"]]
        inside = [all(p <= s < e <= p + len(row["tokens"]) for _, s, e in row["pred_triples"]) for p in offsets]
        assert any(inside)
        assert all(decoded for _, decoded in row["pred_tuples_string"])
        total += len(row["pred_triples"])
        if sample.token_mentions is not None:
            gold = sorted((m.start, m.end, str(m.row)) for m in sample.token_mentions)
            assert [(s, e, row_id) for row_id, s, e in row["gold_triples"]] == gold
    assert total > len(samples)


def test_all_gold_on_disk_is_counted(parity: Path, catalogue: Path, tmp_path: Path, capsys):
    run = {"set": "labelled", "threshold": "-2.9", "threshold_type": "joint", "max_context_length": 16}
    assert main([w for w in command(parity, catalogue, run, tmp_path) if w not in ("--compat", "elq")]) == 0
    on_disk = sum(len(s.token_mentions or ()) for s in read_samples(parity / "questions_labelled.jsonl"))
    recall = re.findall(r"^recall = \d+ / (\d+) ", capsys.readouterr().out, re.MULTILINE)
    assert recall == [str(on_disk), "65"] * 2


def test_hits_do_not_depend_on_where_the_window_lies(parity: Path, catalogue: Path, tmp_path: Path, capsys):
    """What is hit inside the window is hit in the whole text: the original loses one here."""
    run = {"set": "labelled", "threshold": "-2.9", "threshold_type": "joint"}
    assert main([w for w in command(parity, catalogue, run, tmp_path) if w not in ("--compat", "elq")]) == 0
    overall, window = re.findall(r"^precision = (\d+) ", capsys.readouterr().out, re.MULTILINE)[:2]
    assert int(overall) >= int(window) > 0


# --- arrays ---------------------------------------------------------------------------------------------------------


def model_inputs(parity: Path, name: str, model: BiEncoder, length: int = 32) -> list[list[int]]:
    """Inputs in the original's windows, from the project's own functions."""
    rows = []
    for sample in read_samples(parity / f"{SETS[name]}.jsonl"):
        ids = list(model.tokenizer.tokenize([sample.text])[0].ids)
        if sample.token_ids is not None:
            spans = [(m.start, m.end) for m in sample.token_mentions or ()]
            window = window_around_gold(len(sample.token_ids), spans, length).window
            ids = list(sample.token_ids[window.start : window.end])
        rows.append([model.tokenizer.cls_id, *ids, model.tokenizer.sep_id])
    return rows


@pytest.fixture(scope="module", params=SETS)
def base(request: pytest.FixtureRequest, parity: Path, model: BiEncoder):
    """A golden set and the hidden states of its inputs."""
    want = golden(parity, f"{request.param}_base")
    ids, mask = pad(model_inputs(parity, request.param, model), 0, want["input_ids"].shape[1])
    with torch.inference_mode():
        hidden = model.encode_context(torch.from_numpy(ids), torch.from_numpy(mask))
    return want, ids, torch.from_numpy(mask), hidden


def test_inputs(base: Any):
    np.testing.assert_array_equal(base[1], base[0]["input_ids"])


def test_hidden_states_and_bound_logits(base: Any, model: BiEncoder):
    want, _, _, hidden = base
    if "context_hidden_first6" not in want:
        return
    np.testing.assert_allclose(hidden[:6], want["context_hidden_first6"], atol=TOLERANCE, rtol=0)
    assert model.mention_scorer is not None
    with torch.inference_mode():
        bounds = model.mention_scorer(hidden[:6])
    np.testing.assert_allclose(bounds, want["bound_logits_first6"], atol=TOLERANCE, rtol=0)


def test_logits_of_all_spans(base: Any, model: BiEncoder):
    want, _, mask, hidden = base
    with torch.inference_mode():
        scores = model.score_spans(hidden, mask)
    pairs = torch.from_numpy(want["all_mention_bounds"]).long()
    real = pairs[:, 1] >= pairs[:, 0]
    assert np.isneginf(want["all_mention_logits"][:, ~real]).all()
    pairs = pairs[real]
    logits = np.stack([scores.gather(pairs[:, 0], pairs[:, 1], torch.full((len(pairs),), i)).numpy() for i in range(len(mask))])
    np.testing.assert_allclose(logits, want["all_mention_logits"][:, real], atol=TOLERANCE, rtol=0)


def test_kept_spans_their_vectors_and_candidates(base: Any, model: BiEncoder, vectors: torch.Tensor):
    want, ids, mask, hidden = base
    options = DetectorOptions(50, -4.5, keep_all_if_none=True, special_tokens=True)
    inputs = [row[real].tolist() for row, real in zip(ids, mask.numpy(), strict=True)]
    mentions = MentionDetector(
        TorchBackend(model, "fp32", "cpu"), model.tokenizer, model.config.max_mention_length, options
    ).detect(inputs)
    scored = CandidateGenerator(ExactIndex(vectors), 10).retrieve(mentions)
    np.testing.assert_array_equal(np.cumsum([0, *map(len, scored)]), want["mention_offsets"])
    start, end = (np.concatenate([getattr(f, name) for f in scored]) for name in ("start", "end"))
    np.testing.assert_array_equal(np.stack([start, end], 1), want["mention_bounds"])
    np.testing.assert_array_equal(np.concatenate([f.rows for f in scored]), want["cand_ids"])
    arrays = {
        "mention_logits": [f.mention_logits for f in scored],
        "cand_logits": [f.entity_logits for f in scored],
        "joint_scores": [joint_scores(f) for f in scored],
    }
    for name, per_text in arrays.items():
        np.testing.assert_allclose(np.concatenate(per_text), want[name], atol=TOLERANCE, rtol=0, err_msg=name)
    text = torch.repeat_interleave(torch.arange(len(scored)), torch.tensor([len(f) for f in scored]))
    with torch.inference_mode():
        reps = model.embed_mentions(hidden, text, torch.from_numpy(start), torch.from_numpy(end))
    np.testing.assert_allclose(reps, want["mention_reps"], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivfflat"])
def test_index_files(base: Any, parity: Path, kind: str):
    want = base[0]
    if f"{kind}_ids" not in want:
        return
    scores, rows = read_index(parity / f"faiss_{kind}_index.pkl").search(want["mention_reps"], 10)
    np.testing.assert_array_equal(rows, want[f"{kind}_ids"])
    np.testing.assert_allclose(scores, want[f"{kind}_scores"], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(("name", "length"), [("labelled_base", 32), ("labelled_ctx16_inputs", 16)])
def test_windows_and_gold_bounds(parity: Path, model: BiEncoder, name: str, length: int):
    want = golden(parity, name)
    ids, _ = pad(model_inputs(parity, "labelled", model, length), 0, length)
    np.testing.assert_array_equal(ids, want["input_ids"])
    for i, sample in enumerate(read_samples(parity / "questions_labelled.jsonl")):
        mentions = sample.token_mentions or ()
        gold_window = window_around_gold(len(sample.token_ids or ()), [(m.start, m.end) for m in mentions], length)
        real = want["gold_mention_mask"][i].astype(bool)
        assert [list(b) for b in gold_window.bounds] == want["gold_mention_idxs"][i][real].tolist()
        assert [mentions[k].row for k in gold_window.mentions] == want["gold_label_idx"][i][real].tolist()


def test_word_pieces(parity: Path, model: BiEncoder):
    cases = json.loads((parity / "golden" / "tokenize.json").read_text())
    encodings = model.tokenizer.tokenize([case["text"] for case in cases])
    assert [p.ids.tolist() for p in encodings] == [case["ids"] for case in cases]


def test_candidate_inputs_and_vectors(parity: Path, catalogue: Path, model: BiEncoder, vectors: torch.Tensor):
    with Catalogue.open(catalogue) as opened:
        entities = list(opened)
    rows = model.tokenizer.entity_ids(entities, "title_text", 128)
    np.testing.assert_array_equal(pad(rows, 0, 128)[0], read_tensors(parity / "entity_token_ids_128.t7", ""))
    np.testing.assert_allclose(model.encode_entities(entities), vectors, atol=TOLERANCE, rtol=0)


def test_match_counts(parity: Path):
    for case in json.loads((parity / "golden" / "tp_cases.json").read_text()):
        gold, predicted = ([EntitySpan(*t) for t in case[key]] for key in ("gold", "pred"))
        assert count_matches(gold, predicted) == (case["weak"], case["strong"])


# --- other shapes ---------------------------------------------------------------------------------------------------


def old_norms(key: str) -> str:
    return key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")


def wrapped_inside(key: str) -> str:
    return key.replace("bert_model.", "module.bert_model.").replace("mention_scores.", "mention_scores.module.")


SHAPES = [
    Shape(
        "towers of different width",
        "all_avg_linear",
        context=(48, 3, 4),
        candidate=(32, 2, 1),
        keys=lambda key: f"module.{key}",
    ),
    Shape(
        "first and last, mlp",
        "fl_linear",
        "qa_mlp",
        context=(64, 1, 4),
        candidate=(32, 3, 1),
        keys=old_norms,
        legacy=True,
        spell=json.dumps,
    ),
    Shape("alias of mlp", "all_avg", "qa", context=(32, 4, 2), keys=wrapped_inside),
    Shape("first and last", "fl_avg", buffers=True, legacy=True, vocabulary=False),
    Shape("pooled entities", "all_avg", candidate=(64, 2, 1), out_dim=32, buffers=True, max_mention_length=3),
    Shape("wide entities", "all_avg_linear", candidate=(128, 1, 2), spell=lambda v: json.dumps(v, indent=2)),
    Shape("missing settings", "all_avg", spell=lambda v: repr({"mention_aggregation_type": "all_avg", "max_cand_length": 24})),
]
TEXTS = (
    "where is lake garda?",
    "Peru",
    "did Ada Lovelace play chess on Mount Etna, or by the blue Danube?",
    "!",
    "oslo peru chess",
)


@pytest.fixture(scope="module", params=SHAPES, ids=lambda shape: shape.name)
def reference(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    original = Reference(request.param, tmp_path_factory.mktemp("original"))
    (original.folder / "texts.jsonl").write_text(
        "".join(json.dumps({"id": str(i), "text": t}) + "\n" for i, t in enumerate(TEXTS))
    )
    return original.write()


@pytest.mark.parametrize("elq", [True, False], ids=["compat", "plain"])
@pytest.mark.parametrize("threshold_kind", ["all", "half"])
def test_links_of_other_shapes(reference: Reference, elq: bool, threshold_kind: str, tmp_path: Path, capsys):
    threshold = (
        -math.inf if threshold_kind == "all" else middle([s for t in TEXTS for *_, s in reference.link(t, -math.inf, elq=elq)])
    )
    flags = ["--test_mentions", str(reference.folder / "texts.jsonl"), "--save_preds_dir", str(tmp_path)]
    flags += ["--threshold", str(threshold), "--precision", "fp32", *(["--compat", "elq"] if elq else [])]
    assert main([*reference.flags(), *flags]) == 0, capsys.readouterr().err
    links = 0
    for text, row in zip(TEXTS, lines(tmp_path / "biencoder_outs.jsonl"), strict=True):
        want = reference.link(text, threshold, elq=elq)
        assert row["pred_triples"] == [[str(entity), start, end] for entity, start, end, _ in want]
        np.testing.assert_allclose(row["scores"], [score for *_, score in want], atol=TOLERANCE, rtol=0)
        assert row["tokens"] == reference.token_ids(text)
        links += len(want)
    assert links >= 3


def middle(scores: list[float]) -> float:
    """A threshold between two scores, far from both."""
    ordered = sorted(scores)
    index = max(range(len(ordered) // 4, 3 * len(ordered) // 4), key=lambda i: ordered[i + 1] - ordered[i])
    return (ordered[index] + ordered[index + 1]) / 2


def test_entity_vectors_of_other_shapes(reference: Reference):
    folder = reference.folder
    files = OriginalFiles(folder / "pytorch_model.bin", folder / "training_params.txt")
    encoder = read_original(files, context=False, candidate=True)
    with Catalogue.open(folder / "entity.jsonl") as catalogue:
        vectors = encoder.encode_entities(list(catalogue))
    np.testing.assert_allclose(vectors, reference.vectors, atol=TOLERANCE, rtol=0)


def test_word_pieces_decode_as_the_original_does(parity: Path, model: BiEncoder):
    assert isinstance(model.tokenizer, Tokenizer)
    for run in ("joint_thr-4.5", "top_entity_mt-0.6931"):
        for row in lines(parity / "golden" / f"pred_unlabelled_{run}.jsonl"):
            decoded = [model.tokenizer.decode(row["tokens"][s:e]) for _, s, e in row["pred_triples"]]
            assert decoded == [text for _, text in row["pred_tuples_string"]]
