"""What ``blink train`` and ``blink tune`` do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from blink.apps.common import bar, say
from blink.data.mention_files import bind, read_samples, require_rows
from blink.data.records import Sample
from blink.errors import DataError, MissingFileError
from blink.files import require_file
from blink.kb.catalogue import Catalogue
from blink.kb.knowledge_base import KnowledgeBase
from blink.training.settings import TrainSettings, parse_mix

if TYPE_CHECKING:
    from blink.evaluation.sweep import SweepPoint
    from blink.model.config import ModelConfig
    from blink.training.trainer import Trainer
    from blink.training.tuning import DevSet


def train_model(
    settings: TrainSettings,
    *,
    train_files: Sequence[str],
    dev_files: Sequence[str],
    kb: str,
    model: str,
    adapter_rank: int,
    aggregation: str,
    mention_scorer: str,
    out: str,
    triples: str | None,
    resume: bool,
    device: str | None,
) -> None:
    """Train, with progress on standard error, and say where the best model lies."""
    import torch

    from blink.model.biencoder import BiEncoder
    from blink.model.loading import ZERO_SHOT
    from blink.model.precision import resolve_device
    from blink.training.synthetic import Synthesizer, read_triples
    from blink.training.trainer import Trainer
    from blink.training.tuning import DevSet
    from blink.training.validation import BEST_FOLDER

    where = resolve_device(device)
    base = KnowledgeBase.open(kb)
    questions = [s for file in train_files for s in _labelled(file, base.catalogue)]
    dev = [s for file in dev_files for s in _labelled(file, base.catalogue)]
    facts = read_triples(triples, base.catalogue) if triples else []
    made = set(parse_mix(settings.mix)) - {"questions"}
    synthesizer = Synthesizer(base.catalogue, facts, questions) if made else None
    torch.manual_seed(settings.seed)
    config = ZERO_SHOT.replace(adapter_rank=adapter_rank, aggregation=aggregation, mention_scorer=mention_scorer)
    encoder = BiEncoder.from_encoder(model, config)
    trainer = Trainer(encoder, base, questions, dev, Path(out), settings, synthesizer=synthesizer, device=where)
    best = _run(trainer, resume)
    say(f"best epoch: dev covered weak F1 {best.f1:.4f} at threshold {best.threshold:g}, without names")
    folder = Path(out) / BEST_FOLDER
    tuned, _ = _tune(folder, [DevSet(base, dev)])
    say(f"with names: {tuned.f1:.4f} at threshold {tuned.threshold:g}; the model is in {folder}")


def _run(trainer: Trainer, resume: bool) -> SweepPoint:
    from blink.training.trainer import Progress

    with bar("training", trainer.total_steps, "step") as shown:

        def evaluated(epoch: int, point: SweepPoint) -> None:
            say(f"epoch {epoch + 1}: dev covered weak F1 {point.f1:.4f} at threshold {point.threshold:g}")

        def step(losses: dict[str, float]) -> None:
            shown.advance()
            shown.note(" ".join(f"{k} {v:.3f}" for k, v in losses.items()))

        hooks = Progress(start=lambda total, done: shown.advance(done), step=step, evaluated=evaluated)
        return trainer.run(resume=resume, progress=hooks)


def tune_model(model: str, sets: Sequence[tuple[str, str]]) -> None:
    """Tune a stored model's name weights and threshold on (knowledge base, mention file) pairs."""
    from blink.model.biencoder import CONFIG_FILE
    from blink.training.tuning import GRID, DevSet

    require_file(Path(model) / CONFIG_FILE, f"{model} must be a model folder, as `blink train` writes it")
    bases = [(KnowledgeBase.open(kb), file) for kb, file in sets]
    best, config = _tune(Path(model), [DevSet(base, _labelled(file, base.catalogue)) for base, file in bases])
    say(
        f"{model}: covered weak F1 {best.f1:.4f} (mean of {len(sets)}) at threshold {config.threshold:g}, "
        + ", ".join(f"{name} {getattr(config, f'{name}_weight'):g}" for name in GRID)
    )


def _tune(folder: Path, sets: Sequence[DevSet]) -> tuple[SweepPoint, ModelConfig]:
    """Tune a stored model and store its settings alone: a linker may run the weights in a coarser number format."""
    from blink.model.biencoder import BiEncoder, store_settings
    from blink.training.tuning import TRIALS, tune

    model = BiEncoder.from_pretrained(folder)
    with bar("weighing names", TRIALS, "trial") as shown:
        best = tune(model, sets, progress=lambda weights, point: shown.advance())
    store_settings(folder, model.config)
    return best, model.config


def _labelled(file: str, catalogue: Catalogue) -> list[Sample]:
    if not Path(file).is_file():
        raise MissingFileError(f"{file} does not exist; give a labelled mention file")
    samples = list(bind(read_samples(file), catalogue))
    require_rows(samples, len(catalogue))
    if not any(s.mentions for s in samples):
        raise DataError(f"{file} has no gold mentions; training needs 'mentions' with 'label_id' or 'wikidata_id'")
    return samples
