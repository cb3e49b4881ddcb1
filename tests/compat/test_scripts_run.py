"""The original's three shell scripts with plain bash, where there is no Slurm: one chain, from training to evaluation."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from blink.kb.catalogue import Catalogue
from blink.model.loading import load_model
from tests.compat.launcher_toys import ToyCluster

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = "all_avg_true_32_false_false_bert_base_qa_linear"


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> ToyCluster:
    return ToyCluster(tmp_path_factory.mktemp("scripts"))


def run(toy: ToyCluster, script: str, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in toy.environment.items() if not k.startswith("SLURM_")}
    environment |= {"BLINK_SUBMIT": "local", "BLINK_SHARD_ROWS": "24", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        ["bash", ROOT / script, *words],
        cwd=toy.folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
def test_train_then_encode_then_evaluate(toy: ToyCluster) -> None:
    run_folder = toy.experiments / "webqsp_all_ents" / f"all_mention_biencoder_{SETTINGS}"
    words = ["webqsp_all_ents", "all_avg", "both", "8", "true", "32", "false", "false", "base", "qa_linear", "5", "9"]
    run(toy, "examples/train_biencoder.sh", *words)
    assert {p.name for p in run_folder.iterdir()} >= {"epoch_0", "epoch_1", "best", "training_params.txt"}
    parameters = json.loads((run_folder / "training_params.txt").read_text())
    assert (parameters["train_batch_size"], parameters["mention_aggregation_type"]) == (8, "all_avg")

    encodings = toy.models / "entity_encodings" / f"webqsp_all_ents_{SETTINGS}"
    first = torch.load(encodings / "5_9.t7", weights_only=True)
    run(toy, "run_slurm.sh", "webqsp_all_ents", "all_avg", "true", "32", "false", "false", "base", "-1")
    vectors = torch.load(encodings / "all.t7", weights_only=True)
    catalogue = Catalogue.open(toy.models / "entity.jsonl")
    model = load_model(run_folder / "best", context=False, candidate=True)
    expected = model.encode_entities(list(catalogue.iter(0, len(catalogue))))
    np.testing.assert_allclose(vectors.numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(first.numpy(), expected[5:9], atol=1e-5)
    assert (encodings / "training_params.txt").read_bytes() == (run_folder / "training_params.txt").read_bytes()

    name = f"webqsp_all_ents;all_mention_biencoder_{SETTINGS}"
    done = run(
        toy,
        "run_eval_all_ents_slurm.sh",
        "WebQSP_EL",
        "test",
        name,
        "joint",
        "0.0",
        "50",
        "joint_0",
        "1",
        str(encodings / "all.t7"),
    )
    assert "WEAK MATCHING" in done.stdout
    folder = toy.folder / "saved_preds" / f"WebQSP_EL_test_{name}_joint0.0_top50cands_final_joint_0_realtime_test"
    rows = [json.loads(line) for line in (folder / "biencoder_outs.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == [str(i) for i in range(len(rows))]
    assert len(rows) == 24
