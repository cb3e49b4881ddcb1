"""``blink tune`` on a stored model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import toys

from blink.apps.training import tune_model
from blink.model import precision
from blink.model.biencoder import BiEncoder
from blink.model.config import ModelConfig


@pytest.mark.parametrize("rank", [0, 2])
def test_the_weights_stay_to_the_last_bit(tmp_path: Path, rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the processor has bf16, texts are read in it; that must not round what is stored."""
    monkeypatch.setattr(precision, "_has_bf16", lambda device: True)
    base = toys.base_folder(tmp_path / "base")
    config = ModelConfig(adapter_rank=rank, max_context_length=32, max_mention_length=4, max_candidate_length=24)
    BiEncoder.from_encoder(str(base), config).save_pretrained(tmp_path / "model")
    stored = BiEncoder.from_pretrained(tmp_path / "model", candidate=True)
    toys.knowledge_base(tmp_path / "kb", stored, toys.rows(12))
    dev = tmp_path / "dev.jsonl"
    dev.write_text(json.dumps({"text": "Tbilisi 1 is old", "mentions": [[0, 9]], "label_id": [1]}) + "\n")
    weights = next((tmp_path / "model").glob("*.safetensors"))
    before, settings = weights.read_bytes(), json.loads((tmp_path / "model/config.json").read_text())
    tune_model(str(tmp_path / "model"), [(str(tmp_path / "kb"), str(dev))])
    assert weights.read_bytes() == before
    after = json.loads((tmp_path / "model/config.json").read_text())
    tuned = {"threshold", *(key for key in after if key.endswith("_weight"))}
    assert {k: v for k, v in after.items() if k not in tuned} == {k: v for k, v in settings.items() if k not in tuned}
    assert {k: after[k] for k in tuned} != {k: settings[k] for k in tuned}
    BiEncoder.from_pretrained(tmp_path / "model", candidate=True)
