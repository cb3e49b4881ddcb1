"""``elq.main_dense`` as question-answering systems call it, against the numbers of the original."""

from __future__ import annotations

import argparse
import io
import json
import logging
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import elq.main_dense as main_dense
from blink.compat.elq.calls import WIKIDATA_FILE
from blink.errors import BlinkError, DataError, MissingFileError, SettingsError
from tests.compat.goldens import SETS, lines, runs

TOLERANCE = 1e-4

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def models_folder(parity: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The original's files under the names it published them by."""
    folder = tmp_path_factory.mktemp("models")
    names = {
        "pytorch_model.bin": "elq_wiki_large.bin",
        "training_params.txt": "elq_large_params.txt",
        "entity.jsonl": "entity.jsonl",
        "all_entities.t7": "all_entities_large.t7",
    }
    same = ("config.json", "vocab.txt", "faiss_hnsw_index.pkl", "faiss_flat_index.pkl", "faiss_ivfflat_index.pkl")
    for source, target in (names | {name: name for name in same}).items():
        shutil.copyfile(parity / source, folder / target)
    return folder


def arguments(folder: Path, **changes: Any) -> argparse.Namespace:
    """What callers set, after the original's README; None leaves an attribute out."""
    config: dict[str, Any] = {
        "interactive": False,
        "biencoder_model": f"{folder}/elq_wiki_large.bin",
        "biencoder_config": f"{folder}/elq_large_params.txt",
        "cand_token_ids_path": f"{folder}/entity_token_ids_128.t7",
        "entity_catalogue": f"{folder}/entity.jsonl",
        "entity_encoding": f"{folder}/all_entities_large.t7",
        "output_path": "logs/",
        "faiss_index": "none",
        "index_path": f"{folder}/faiss_hnsw_index.pkl",
        "num_cand_mentions": 50,
        "num_cand_entities": 10,
        "threshold_type": "joint",
        "threshold": -4.5,
    }
    return argparse.Namespace(**{name: value for name, value in (config | changes).items() if value is not None})


class SeedEntities:
    """Finds the entities that a question-answering system starts from, with their Wikidata ids and probabilities."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.args = arguments(folder, **changes)
        self.models = main_dense.load_models(self.args, logger=None)
        self.qids = json.loads((folder / "id2wikidata.json").read_text(encoding="utf-8"))

    def of(self, questions: list[str]) -> list[list[tuple[str | None, str, str, float]]]:
        data = [{"id": number, "text": question} for number, question in enumerate(questions)]
        answers = []
        for number, prediction in enumerate(main_dense.run(self.args, None, *self.models, test_data=data)):
            assert prediction["id"] == number
            columns = zip(prediction["pred_triples"], prediction["pred_tuples_string"], prediction["scores"], strict=True)
            answers.append(
                [
                    (self.qids.get(row), title, mention, float(np.exp(score)))
                    for (row, start, end), (title, mention), score in columns
                    if end > start
                ]
            )
        return answers


def assert_golden(predictions: list[dict[str, Any]], parity: Path, run: dict[str, Any]) -> None:
    expected = lines(parity / "golden" / f"pred_{run['set']}_{run['run']}.jsonl")
    assert len(predictions) == len(expected)
    for prediction, original in zip(json.loads(json.dumps(predictions)), expected, strict=True):
        assert list(prediction) == list(original)
        np.testing.assert_allclose(prediction.pop("scores"), original.pop("scores"), atol=TOLERANCE, rtol=0)
        assert prediction == original


@pytest.mark.parametrize("run", runs())
def test_predictions_are_those_of_the_original(parity: Path, models_folder: Path, run: dict[str, Any], capsys: Any) -> None:
    kind = run.get("faiss_index", "none")
    optional = ("mention_threshold", "num_cand_mentions", "num_cand_entities", "eval_batch_size", "max_context_length")
    changes = {name: run[name] for name in optional if run.get(name) is not None}
    args = arguments(
        models_folder, threshold_type=run["threshold_type"], threshold=run["threshold"], faiss_index=kind,
        index_path=f"{models_folder}/faiss_{kind}_index.pkl", **changes,
    )  # fmt: skip
    models = main_dense.load_models(args, None)
    predictions = main_dense.run(args, None, *models, test_data=lines(parity / f"{SETS[run['set']]}.jsonl"))
    assert_golden(predictions, parity, run)
    assert all(isinstance(triple, tuple) for record in predictions for triple in record["pred_triples"])
    assert ("STRONG" in capsys.readouterr().out) == (run["set"] == "labelled")


def test_a_question_answering_system_gets_its_seed_entities(parity: Path, models_folder: Path) -> None:
    questions = [row["text"] for row in lines(parity / "questions_unlabelled.jsonl")]
    expected = lines(parity / "golden" / "pred_unlabelled_joint_thr-2.9_hnsw.jsonl")
    seeds = SeedEntities(models_folder, faiss_index="hnsw", threshold=-2.9)
    qids = [json.loads(line).get("kb_idx") for line in (models_folder / "entity.jsonl").read_text().splitlines()]
    total = 0
    for answers, record in zip(seeds.of(questions), expected, strict=True):
        reference = [
            (qids[int(row)], title, mention, math.exp(score))
            for (row, start, end), (title, mention), score in zip(
                record["pred_triples"], record["pred_tuples_string"], record["scores"], strict=True
            )
            if end > start
        ]
        assert [answer[:3] for answer in answers] == [answer[:3] for answer in reference]
        np.testing.assert_allclose([a[3] for a in answers], [w[3] for w in reference], atol=TOLERANCE)
        total += len(answers)
    assert total > len(questions)


def test_what_is_loaded(models_folder: Path) -> None:
    exact = main_dense.load_models(arguments(models_folder), None)
    model, settings, vectors, index, titles, texts, qids = exact
    assert index is None
    assert vectors is not None
    assert vectors.shape == (len(titles), model.entity_size)
    assert settings["max_context_length"] == 32
    assert settings["path_to_model"] == f"{models_folder}/elq_wiki_large.bin"
    entities = lines(models_folder / "entity.jsonl")
    assert titles["7"] == entities[7]["title"]
    assert texts["7"] == entities[7]["text"].strip()
    assert dict(qids) == {str(i): e["kb_idx"] for i, e in enumerate(entities) if e.get("kb_idx")}
    assert len(qids) == len(dict(qids)) < len(titles)
    for missing_id in ("300", "-1", "x", "", None, 7.5):
        with pytest.raises(KeyError):
            titles[missing_id]  # type: ignore[index]
    assert qids.get("100000") is None
    with_index = main_dense.load_models(arguments(models_folder, faiss_index="flat"), None)
    assert with_index[2] is None
    assert with_index[3] is not None


def test_ids_for_callers_are_written_again_only_after_a_change(parity: Path, models_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(models_folder, tmp_path / "models")
    path = tmp_path / "models" / WIKIDATA_FILE
    path.write_text("{}")
    main_dense.load_models(arguments(tmp_path / "models"), None)
    assert path.read_text() == "{}"
    os.utime(tmp_path / "models" / "entity.jsonl", (path.stat().st_atime, path.stat().st_mtime + 10))
    main_dense.load_models(arguments(tmp_path / "models"), None)
    assert len(json.loads(path.read_text())) > 100


def test_a_file_of_mentions_and_a_folder_of_predictions(
    parity: Path, models_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    args = arguments(
        models_folder,
        test_mentions=str(parity / "questions_labelled.jsonl"),
        save_preds_dir=str(tmp_path / "out"),
        threshold="-2.9",
    )
    logger = logging.getLogger("caller")
    with caplog.at_level(logging.INFO, logger="caller"):
        predictions = main_dense.run(args, logger, *main_dense.load_models(args, logger))
    assert_golden(predictions, parity, {"set": "labelled", "run": "joint_thr-2.9"})
    assert json.loads(json.dumps(predictions)) == lines(tmp_path / "out" / "biencoder_outs.jsonl")
    assert len(caplog.messages) >= 2


def test_long_texts_keep_their_beginning(models_folder: Path) -> None:
    args = arguments(models_folder, threshold=-math.inf)
    models = main_dense.load_models(args, None)
    long, short = main_dense.run(
        args, None, *models, test_data=[{"id": "a", "text": "peru " * 900}, {"id": "b", "text": "oslo"}]
    )
    assert 30 < len(long["tokens"]) < 900
    assert long["pred_triples"]
    assert short["tokens"]


def test_the_dialogue_is_the_shell(models_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"who is from italy?\n")))
    args = arguments(models_folder, interactive=True)
    assert main_dense.run(args, None, *main_dense.load_models(args, None)) == []
    assert "italy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"biencoder_model": None}, SettingsError, "args.biencoder_model is not set"),
        ({"entity_catalogue": None}, SettingsError, "args.entity_catalogue"),
        ({"entity_encoding": None}, SettingsError, "args.entity_encoding"),
        ({"faiss_index": "hnsw", "index_path": None}, SettingsError, "args.index_path"),
        ({"faiss_index": "annoy"}, SettingsError, "args.faiss_index is 'annoy'; allowed are hnsw, flat, ivfflat, none"),
        ({"threshold_type": "best"}, SettingsError, "args.threshold_type is 'best'"),
        ({"threshold": "low"}, SettingsError, "args.threshold is 'low'"),
        ({"num_cand_entities": 0}, SettingsError, "args.num_cand_entities is 0"),
        ({"biencoder_model": "nowhere.bin"}, MissingFileError, "nowhere.bin does not exist"),
        ({"faiss_index": "flat", "index_path": "nowhere.pkl"}, MissingFileError, "nowhere.pkl"),
        ({"threshold_type": "top_entity_by_mention"}, SettingsError, "args.mention_threshold is not set"),
    ],
)
def test_wrong_arguments_end_in_one_line(
    models_folder: Path, changes: dict[str, Any], error: type[BlinkError], words: str
) -> None:
    args = arguments(models_folder, **changes)
    with pytest.raises(error) as failure:
        main_dense.run(args, None, *main_dense.load_models(args, None), test_data=[{"id": 0, "text": "oslo"}])
    assert words in str(failure.value)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([], "there is nothing to link"),
        (None, "there is nothing to link"),
        ([{"id": 0}], "test_data, entry 0"),
        ([{"id": 0, "text": "x"}, {"id": 1, "text": None}], "test_data, entry 1"),
        ([{"id": 0, "text": "oslo", "label_id": [1]}], "entry 0"),
    ],
)
def test_wrong_texts_end_in_one_line(models_folder: Path, data: Any, words: str) -> None:
    args = arguments(models_folder)
    models = main_dense.load_models(args, None)
    with pytest.raises((SettingsError, DataError), match=words):
        main_dense.run(args, None, *models, test_data=data)


def test_parts_of_other_models_are_refused(models_folder: Path) -> None:
    args = arguments(models_folder)
    models = list(main_dense.load_models(args, None))
    models[4] = {"0": "Oslo"}
    with pytest.raises(SettingsError, match="pass what load_models returned"):
        main_dense.run(args, None, *models, test_data=[{"id": 0, "text": "oslo"}])
    models = list(main_dense.load_models(args, None))
    models[2] = None
    with pytest.raises(SettingsError, match="candidate_encoding"):
        main_dense.run(args, None, *models, test_data=[{"id": 0, "text": "oslo"}])


def test_importing_waits_for_nothing() -> None:
    code = "import sys, elq.main_dense; print([m for m in ('torch', 'transformers', 'faiss') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
