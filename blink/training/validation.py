"""Scores a model in training on development texts, and stores it with a knowledge base of its entity vectors."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from blink.data.records import Sample
from blink.evaluation.sweep import THRESHOLDS, SweepPoint, best_point, mean_point, sweep
from blink.kb.building import build_knowledge_base
from blink.kb.knowledge_base import KnowledgeBase
from blink.kb.manifest import MANIFEST_FILE
from blink.left_overs import temporary_folder
from blink.linking.linker import Linker
from blink.model.biencoder import BiEncoder
from blink.model.execution import Execution
from blink.model.folder import CONFIG_FILE
from blink.training.step.towers import as_stored, standalone
from blink.work_folders import replace_folder

BEST_FOLDER = "best"
LAST_FOLDER = "last"
EPOCH_FOLDER = "epoch_{}"
"""Folder of the model of an epoch, counted from 0, if all are kept."""
PRECISION = "fp32"
"""Of validations, whatever that of the training."""
KB_SUFFIX = "-kb"
"""Suffix of a model's folder for the knowledge base of its entity vectors, if those are trained."""


class Validation:
    """Validates and stores the model of a run.

    Args:
        model: in training.
        kb: the knowledge base of the run.
        dev: sets of labelled texts.
        folder: of the run.
        device: of the model.
        learns_entities: whether entity vectors are trained; then each validation encodes the catalogue again.
    """

    def __init__(
        self,
        model: BiEncoder,
        kb: KnowledgeBase,
        dev: Sequence[Sequence[Sample]],
        folder: Path,
        device: torch.device,
        learns_entities: bool,
    ) -> None:
        self._model, self._kb, self._dev, self._folder = model, kb, dev, folder
        self._device, self._learns_entities = device, learns_entities

    def score(self) -> SweepPoint:
        """Covered weak F1 at the best threshold, averaged over the sets, with the current entity vectors."""
        self._model.eval()
        model = standalone(self._model) if self._learns_entities else self._model
        kb = self._encoded(model) if self._learns_entities else self._kb
        linker = Linker(model, kb, rank=False, precision=PRECISION, device=str(self._device))
        sweeps = []
        for samples in self._dev:
            analyses = list(linker.analyze([s.text for s in samples], min_mention_log_prob=min(THRESHOLDS)))
            sweeps.append(sweep(linker.decoder, analyses, samples))
        return best_point([mean_point(points) for points in zip(*sweeps, strict=True)])

    @property
    def execution(self) -> Execution:
        """How the model runs in validations."""
        return Execution.here(PRECISION, "torch", self._device.type)

    def store(self, *, best: bool, epoch: int | None = None) -> None:
        """Store the model as the last one and, if it is the best so far, as the best one, with its knowledge base.

        Args:
            best: whether it is the best so far.
            epoch: number of the epoch, if the model of each epoch is kept.
        """
        model = as_stored(self._model, self._learns_entities)
        model.save_pretrained(self._folder / LAST_FOLDER)
        if best:
            model.save_pretrained(self._folder / BEST_FOLDER)
        if best and self._learns_entities:
            _replace_folder(self._folder / (LAST_FOLDER + KB_SUFFIX), self._folder / (BEST_FOLDER + KB_SUFFIX))
        if epoch is not None:
            _replace_folder(self._folder / LAST_FOLDER, self._folder / EPOCH_FOLDER.format(epoch))

    def _encoded(self, model: BiEncoder) -> KnowledgeBase:
        out = self._folder / (LAST_FOLDER + KB_SUFFIX)
        manifest = self._kb.manifest
        kind = (
            {}
            if manifest is None
            else {"index": manifest.local_index, "dtype": manifest.dtype, "skip_bad": manifest.skipped > 0}
        )
        build_knowledge_base(self._kb.catalogue.path, out, model.encode_entities, model.candidate_fingerprint(), **kind)  # type: ignore[arg-type]
        return KnowledgeBase.open(out)


def _replace_folder(source: Path, target: Path) -> None:
    with temporary_folder(target) as work:
        shutil.copytree(source, work, dirs_exist_ok=True)
        replace_folder(work, target, (MANIFEST_FILE, CONFIG_FILE))
