"""Losses and gradients of training against numbers that the original made itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from blink.data.mention_files import read_samples
from blink.kb.catalogue import Catalogue
from blink.model.biencoder import BiEncoder
from blink.model.original import OriginalFiles, read_original, rename_keys
from blink.training.data.examples import Batch, collate, examples_from
from blink.training.launch import make_accelerator
from blink.training.settings import TrainSettings
from blink.training.step.losses import in_batch_loss, span_loss
from blink.training.step.towers import LearningVectors, prepare_towers

TOLERANCE = 1e-4
BATCH = 8

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def golden(parity: Path) -> dict[str, np.ndarray]:
    with np.load(parity / "golden" / "training.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def model(parity: Path) -> BiEncoder:
    """In evaluation mode, as the golden run: without dropout."""
    biencoder = read_original(OriginalFiles(parity / "pytorch_model.bin", parity / "training_params.txt"), candidate=True)
    prepare_towers(biencoder, "trained")
    return biencoder


@pytest.fixture(scope="module")
def batches(parity: Path, model: BiEncoder) -> list[Batch]:
    samples = list(read_samples(parity / "questions_labelled.jsonl"))
    examples = examples_from(samples, model.tokenizer, model.config.max_context_length)
    return [collate(examples[first : first + BATCH], model.tokenizer.pad_id) for first in range(0, len(examples), BATCH)]


@pytest.fixture(scope="module")
def catalogue(parity: Path, tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    return Catalogue.open(parity / "entity.jsonl", sidecar=tmp_path_factory.mktemp("offsets") / "entity.offsets")


@pytest.fixture(scope="module")
def vectors(model: BiEncoder, catalogue: Catalogue) -> LearningVectors:
    accelerator = make_accelerator(TrainSettings(precision="fp32"), torch.device("cpu"), Path("unused"))
    return LearningVectors(model, catalogue, accelerator)


def losses(model: BiEncoder, vectors: LearningVectors, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scores of mentions and entities, entity loss, span loss; with a column a mention, as the original has it."""
    rows = batch.rows.unique()
    entities = vectors.open(rows)[torch.searchsorted(rows, batch.rows)]
    hidden = model.encode_context(batch.ids, batch.mask)
    scores = model.embed_mentions(hidden, batch.text, batch.start, batch.end) @ entities.T
    return scores, in_batch_loss(scores, torch.arange(len(scores))), span_loss(model.score_spans(hidden, batch.mask), batch)


def test_losses_of_all_batches(
    model: BiEncoder, vectors: LearningVectors, batches: list[Batch], golden: dict[str, np.ndarray]
) -> None:
    with torch.no_grad():
        results = [losses(model, vectors, batch) for batch in batches]
    np.testing.assert_allclose(results[0][0].numpy(), golden["in_batch_scores_first"], atol=TOLERANCE)
    np.testing.assert_allclose([float(span) for _, _, span in results], golden["span_loss"], atol=TOLERANCE)
    np.testing.assert_allclose([float(entity + span) for _, entity, span in results], golden["loss"], atol=TOLERANCE)


def test_gradients_of_the_first_batch(
    model: BiEncoder, vectors: LearningVectors, batches: list[Batch], golden: dict[str, np.ndarray]
) -> None:
    model.zero_grad()
    _, entity, span = losses(model, vectors, batches[0])
    (entity + span).backward()
    vectors.backward()
    norms = {name: p.grad.norm() for name, p in model.named_parameters() if p.grad is not None}
    expected = dict(zip(golden["grad_names"].tolist(), golden["grad_norms"].tolist(), strict=True))
    renamed = rename_keys({name: torch.tensor(norm) for name, norm in expected.items()})
    assert renamed.keys() == norms.keys()
    for name, norm in renamed.items():
        assert float(norms[name]) == pytest.approx(float(norm), abs=TOLERANCE, rel=TOLERANCE), name
