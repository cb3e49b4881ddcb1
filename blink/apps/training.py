"""What ``blink train`` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from blink.apps.common import bar, say
from blink.data.mention_files import bind, read_samples, require_rows
from blink.data.mention_store import OFFSETS_FOLDER, MentionStore
from blink.data.records import Sample
from blink.errors import DataError, MismatchError, MissingFileError, SettingsError
from blink.files import require_file
from blink.kb.catalogue import Catalogue
from blink.kb.knowledge_base import KnowledgeBase
from blink.training.settings import Fold, TrainSettings, parse_fold, parse_mix

if TYPE_CHECKING:
    from blink.evaluation.sweep import SweepPoint
    from blink.model.biencoder import BiEncoder
    from blink.model.config import ModelConfig
    from blink.training.synthetic import Synthesizer
    from blink.training.trainer import Trainer

STREAMED_BYTES = 64 << 20
"""Training files from this size on stay on disk."""
LOOKED_AT = 1000
"""Rows of such a file that are looked at for labels before training begins."""
MOST_SWAPPED = 20_000
"""Rows of such a file whose entities are swapped for others, where the mixture asks for that."""


@dataclass(frozen=True)
class Request:
    """What ``blink train`` was asked for, beside `TrainSettings`; see its options."""

    kb: str | None
    model: str
    catalogue: str = "models/entity.jsonl"
    vectors: str | None = None
    index: str | None = None
    train_files: Sequence[str] = ()
    dev_files: Sequence[str] = ()
    data: str | None = None
    out: str | None = None
    checkpoint: str | None = None
    candidate_only: bool = False
    adapter_rank: int | None = None
    aggregation: str | None = None
    mention_scorer: str | None = None
    context_length: int | None = None
    candidate_length: int | None = None
    max_mention_length: int | None = None
    triples: str | None = None
    pseudo: str | None = None
    resume: bool = False
    device: str | None = None

    def files(self) -> tuple[list[str], list[str]]:
        """Training and development files.

        Raises:
            SettingsError: none are named.
            MissingFileError: the folder named as ``data`` lacks one.
        """
        train, dev = list(self.train_files), list(self.dev_files)
        if self.data is not None:
            folder = Path(self.data)
            train = train or [str(require_file(folder / "train.jsonl", "--data needs a folder with train.jsonl"))]
            valid = folder / "valid.jsonl"
            found = valid if valid.is_file() else require_file(folder / "dev.jsonl", "--data needs valid.jsonl or dev.jsonl")
            dev = dev or [str(found)]
        if not train or not dev:
            raise SettingsError("training needs texts; give --train FILE and --dev FILE, or --data DIR with both")
        return train, dev


def train_model(settings: TrainSettings, request: Request) -> None:
    """Train, with progress on standard error, and say where the best model lies.

    Raises:
        SystemExit: a signal stopped the run; its state is saved.
    """
    from blink.model.precision import resolve_device
    from blink.runs.signals import Interrupted
    from blink.training.trainer import Trainer

    train_files, dev_files = request.files()
    where = resolve_device(request.device)
    base = _knowledge_base(request)
    dev = [s for file in dev_files for s in labelled_samples(file, base.catalogue)]
    model = _starting_model(settings, request)
    folder = _run_folder(settings, request, train_files[0], model.config)
    questions = _questions(train_files, base.catalogue, folder, parse_fold(settings.leave_out))
    sources = [Path(f) for f in (*train_files, *dev_files, request.triples, request.pseudo, *_weights(request)) if f]
    synthesizer = _synthesizer(settings, request, base, questions)
    trainer = Trainer(model, base, questions, dev, folder, settings, synthesizer=synthesizer, device=where, sources=sources)
    try:
        best = _run(trainer, request.resume)
    except Interrupted as stop:
        say(f"{stop}; go on with the same command and --resume")
        raise SystemExit(128 + stop.signal) from stop
    if trainer.accelerator.is_main_process:
        _finish(trainer, best)


def _knowledge_base(request: Request) -> KnowledgeBase:
    """The knowledge base that was named, or one put together from files of the original's.

    Raises:
        SettingsError: neither is named.
        MismatchError: the files hold different numbers of entities.
    """
    if request.kb is not None:
        return KnowledgeBase.open(request.kb)
    if request.vectors is None:
        raise SettingsError(
            "training needs entity vectors; give --kb DIR (blink kb build), or the original's --cand_enc_path FILE"
        )
    from blink.kb.index import ExactIndex, read_index
    from blink.model.original import read_tensors

    catalogue = Catalogue.open(
        require_file(request.catalogue, "name the catalogue of the vectors by --catalogue"), skip_bad=True
    )
    vectors = read_tensors(request.vectors, "get it with: ./download_models.sh --only all_entities_large.t7")
    if getattr(vectors, "ndim", 0) != 2 or len(vectors) != len(catalogue):
        raise MismatchError(
            f"{request.vectors} must hold a vector for each of the {len(catalogue)} entities of {request.catalogue}"
        )
    index = ExactIndex(vectors) if request.index is None else read_index(request.index)
    return KnowledgeBase(catalogue, index, vectors=vectors.numpy())


def _starting_model(settings: TrainSettings, request: Request) -> BiEncoder:
    import torch

    from blink.training.start import Start, starting_model

    changes = {
        "aggregation": request.aggregation,
        "mention_scorer": request.mention_scorer,
        "max_context_length": request.context_length,
        "max_candidate_length": request.candidate_length,
        "max_mention_length": request.max_mention_length,
    }
    torch.manual_seed(settings.seed)
    start = Start(request.model, _checkpoint(request), request.candidate_only, request.adapter_rank, changes)
    return starting_model(start)


def _checkpoint(request: Request) -> str | None:
    from blink.training.start import is_checkpoint

    return request.checkpoint or (request.model if is_checkpoint(request.model) else None)


def _weights(request: Request) -> list[Path]:
    """Files of the model that is trained further."""
    if (checkpoint := _checkpoint(request)) is None:
        return []
    path = Path(checkpoint)
    return sorted(p for p in path.iterdir() if p.suffix in (".safetensors", ".bin")) if path.is_dir() else [path]


def _run_folder(settings: TrainSettings, request: Request, train_file: str, config: ModelConfig) -> Path:
    """Where the run goes.

    Raises:
        SettingsError: no folder is named, and the one named after data and settings holds a run.
    """
    if request.out is not None:
        return Path(request.out)
    folder = default_folder(settings, request.data or train_file, request.model, config)
    if (folder / "settings.json").is_file() and not request.resume:
        raise SettingsError(f"{folder} holds a run already; go on with it by --resume, or name another folder by --out")
    say(f"the run goes into {folder}")
    return folder


def default_folder(settings: TrainSettings, data: str, model: str, config: ModelConfig) -> Path:
    """The folder that the original's script would name after data and settings.

    ``data`` is a folder, or a file that is named after its split or after what it holds.
    """
    path = Path(data)
    name = path.resolve().parent.name if path.stem in ("train", "valid", "dev") else path.resolve().with_suffix("").name
    size = Path(model).name.removeprefix("bert-").removesuffix("-uncased")
    words = [
        "all_mention_biencoder", config.aggregation, "true", str(config.max_context_length),
        str(settings.entity_tower == "frozen").lower(), str("hard_negatives" in settings.objective).lower(),
        "bert", size, config.mention_scorer,
    ]  # fmt: skip
    return Path("experiments") / name / "_".join(words)


def _questions(files: Sequence[str], catalogue: Catalogue, folder: Path, left_out: Fold | None) -> Sequence[Sample]:
    """Training texts: in memory, or, of large files, on disk."""
    if max(require_file(f, "give a labelled mention file").stat().st_size for f in files) < STREAMED_BYTES:
        samples = [s for file in files for s in labelled_samples(file, catalogue)]
        return [s for s in samples if left_out is None or s.id not in left_out]
    if left_out is not None:
        raise SettingsError(f"--leave-out is for files below {STREAMED_BYTES >> 20} MiB; give one in parts of your own")
    store = MentionStore(files, catalogue, folder / OFFSETS_FOLDER)
    if not any(s.mentions or s.token_mentions for s in store[:LOOKED_AT]):
        raise DataError(f"{files[0]} has no gold mentions; training needs 'mentions' with 'label_id' or 'wikidata_id'")
    return store


def _synthesizer(
    settings: TrainSettings, request: Request, base: KnowledgeBase, questions: Sequence[Sample]
) -> Synthesizer | None:
    from blink.training.synthetic import Synthesizer, read_triples

    if not set(parse_mix(settings.mix)) - {"questions"}:
        return None
    facts = read_triples(request.triples, base.catalogue) if request.triples else []
    some = questions[:: max(len(questions) // MOST_SWAPPED, 1)] if isinstance(questions, MentionStore) else questions
    guessed = labelled_samples(request.pseudo, base.catalogue) if request.pseudo else []
    return Synthesizer(base.catalogue, facts, some, guessed=guessed, damage=settings.damage)


def _finish(trainer: Trainer, best: SweepPoint) -> None:
    from blink.training.validation import BEST_FOLDER, KB_SUFFIX

    folder = trainer.folder / BEST_FOLDER
    own = f" and its knowledge base in {folder}{KB_SUFFIX}" if trainer.learns_entities else ""
    say(f"best epoch: dev covered weak F1 {best.f1:.4f} at threshold {best.threshold:g}; the model is in {folder}{own}")
    say(f"next: blink rank {folder} ... weighs names and popularity too, and makes scores probabilities")


def _run(trainer: Trainer, resume: bool) -> SweepPoint:
    from blink.runs.progress import Progress

    if not trainer.accelerator.is_main_process:
        return trainer.run(resume=resume)
    with bar("training", trainer.total_steps, "step") as shown:

        def step(losses: Mapping[str, float]) -> None:
            shown.advance()
            shown.note(" ".join(f"{k} {v:.3f}" for k, v in losses.items()))

        hooks = Progress(start=lambda total, done: shown.advance(done), step=step, say=say)
        return trainer.run(resume=resume, progress=hooks)


def labelled_samples(file: str, catalogue: Catalogue) -> list[Sample]:
    """Read a labelled mention file; entities are rows of the catalogue.

    Raises:
        MissingFileError: there is no such file.
        DataError: it has no gold mentions.
    """
    if not Path(file).is_file():
        raise MissingFileError(f"{file} does not exist; give a labelled mention file")
    samples = list(bind(read_samples(file), catalogue))
    require_rows(samples, len(catalogue))
    if not any(s.mentions for s in samples):
        raise DataError(f"{file} has no gold mentions; training needs 'mentions' with 'label_id' or 'wikidata_id'")
    return samples
