"""Inputs of a linker's training run, from names of files: texts, knowledge base, model and folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from blink.data.mention_files import labelled_samples
from blink.data.mention_store import OFFSETS_FOLDER, MentionStore
from blink.data.records import Sample
from blink.errors import DataError, MismatchError, SettingsError
from blink.files import require_file
from blink.kb.catalogue import Catalogue
from blink.kb.index import ExactIndex, read_index
from blink.kb.knowledge_base import KnowledgeBase
from blink.training.settings import TrainSettings, parse_fold, parse_mix

if TYPE_CHECKING:
    from blink.model.biencoder import BiEncoder
    from blink.model.config import ModelConfig
    from blink.model.gold_checks import GoldChecker
    from blink.training.data.synthetic import Synthesizer

STREAMED_BYTES = 64 << 20
"""Training files of at least this size are read from disk batch by batch."""
MAX_CHECKED_ROWS = 1000
"""Rows of such a file that are checked before training starts."""
MAX_REPLACED_ROWS = 20_000
"""Rows of such a file that entity replacement uses."""


@dataclass(frozen=True)
class RunInputs:
    """Files and changes of a run, in addition to `TrainSettings`; see the options of ``blink train``."""

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
    reads_case: bool | None = None
    triples: str | None = None
    pseudo: str | None = None
    resume: bool = False
    device: str | None = None

    def mention_files(self) -> tuple[list[str], list[str]]:
        """Training and development files.

        Raises:
            SettingsError: no files are named.
            MissingFileError: the folder ``data`` lacks a file.
        """
        train, dev = list(self.train_files), list(self.dev_files)
        if self.data is not None:
            folder = Path(self.data)
            train = train or [str(require_file(folder / "train.jsonl", "--data needs a folder with train.jsonl"))]
            valid = folder / "valid.jsonl"
            if not valid.is_file():
                valid = require_file(folder / "dev.jsonl", "--data needs valid.jsonl or dev.jsonl")
            dev = dev or [str(valid)]
        if not train or not dev:
            raise SettingsError("training needs texts; give --train FILE and --dev FILE, or --data DIR with both")
        return train, dev

    def files_by_role(self) -> dict[str, list[str]]:
        """Names of the files of texts by what they are for."""
        train, dev = self.mention_files()
        files: dict[str, list[str | None]] = {
            "train": [*train],
            "dev": [*dev],
            "triples": [self.triples],
            "pseudo": [self.pseudo],
        }
        return {role: [name for name in names if name] for role, names in files.items()}

    def sources(self) -> list[Path]:
        """All files that the run depends on, except for the knowledge base; their hashes are its provenance."""
        train, dev = self.mention_files()
        return [Path(f) for f in (*train, *dev, self.triples, self.pseudo, *self._weights()) if f]

    def knowledge_base(self) -> KnowledgeBase:
        """The named knowledge base, or one from files of the original.

        Raises:
            SettingsError: neither is named, or the knowledge base has edits that are not part of its files.
            MismatchError: the files hold different numbers of entities.
        """
        if self.kb is not None:
            base = KnowledgeBase.open(self.kb)
            if base.changes.entities:  # a run reads the files again and again
                raise SettingsError(f"{self.kb} was edited; make the edits part of its files first: blink kb compact {self.kb}")
            return base
        if self.vectors is None:
            raise SettingsError(
                "training needs entity vectors; give --kb DIR (blink kb build), or the original's --cand_enc_path FILE"
            )
        from blink.model.original import read_tensors

        catalogue = Catalogue.open(
            require_file(self.catalogue, "name the catalogue of the vectors by --catalogue"), skip_bad=True
        )
        vectors = read_tensors(self.vectors, "get it with: ./download_models.sh --only all_entities_large.t7")
        if getattr(vectors, "ndim", 0) != 2 or len(vectors) != len(catalogue):
            raise MismatchError(
                f"{self.vectors} must hold a vector for each of the {len(catalogue)} entities of {self.catalogue}"
            )
        index = ExactIndex(vectors.numpy()) if self.index is None else read_index(self.index)
        return KnowledgeBase(catalogue, index, vectors=vectors.numpy())

    def starting_model(self, seed: int) -> BiEncoder:
        """The model to train. New heads and adapters are initialized with ``seed``."""
        import torch

        from blink.training.start import Start, starting_model

        changes = {
            "aggregation": self.aggregation,
            "mention_scorer": self.mention_scorer,
            "max_context_length": self.context_length,
            "max_candidate_length": self.candidate_length,
            "max_mention_length": self.max_mention_length,
            "reads_case": self.reads_case,
        }
        torch.manual_seed(seed)
        return starting_model(Start(self.model, self._checkpoint(), self.candidate_only, self.adapter_rank, changes))

    def folder(self, settings: TrainSettings, config: ModelConfig) -> Path:
        """The folder of the run.

        Raises:
            SettingsError: no folder is named, and the default one has a run.
        """
        if self.out is not None:
            return Path(self.out)
        data = self.data or self.mention_files()[0][0]
        folder = default_folder(settings, data, self.model, config)
        if (folder / "settings.json").is_file() and not self.resume:
            raise SettingsError(f"{folder} holds a run already; continue it with --resume, or name another folder with --out")
        return folder

    def train_samples(self, catalogue: Catalogue, folder: Path, leave_out: str, check: GoldChecker) -> Sequence[Sample]:
        """Training texts: in memory, or for large files on disk, with their offsets in the folder of the run.

        Raises:
            DataError: the texts have no gold mentions, or none that the model can get right.
            SettingsError: a fold of a large file is to be held out.
        """
        files, fold = self.mention_files()[0], parse_fold(leave_out)
        if max(require_file(f, "give a labelled mention file").stat().st_size for f in files) < STREAMED_BYTES:
            samples = [s for file in files for s in labelled_samples(file, catalogue, check)]
            return [s for s in samples if fold is None or s.id not in fold]
        if fold is not None:
            raise SettingsError(f"--leave-out is for files below {STREAMED_BYTES >> 20} MiB; give one in parts of your own")
        store = MentionStore(files, catalogue, folder / OFFSETS_FOLDER)
        if not any(s.mentions or s.token_mentions for s in store[:MAX_CHECKED_ROWS]):
            raise DataError(f"{files[0]} has no gold mentions; training needs 'mentions' with 'label_id' or 'wikidata_id'")
        step = -(-len(store) // MAX_CHECKED_ROWS)
        check(", ".join(files), store[::step])
        return store

    def dev_sets(self, catalogue: Catalogue, check: GoldChecker) -> list[list[Sample]]:
        """Development texts of each file.

        Raises:
            DataError: a file has no gold mentions, or none that the model can get right.
        """
        check_ids = partial(check, require_ids=True)
        return [labelled_samples(file, catalogue, check_ids) for file in self.mention_files()[1]]

    def synthesizer(self, settings: TrainSettings, kb: KnowledgeBase, questions: Sequence[Sample]) -> Synthesizer | None:
        """The generator of synthetic texts; None if the mixture has none."""
        from blink.training.data.synthetic import Synthesizer, read_triples

        if not set(parse_mix(settings.mix)) - {"questions"}:
            return None
        triples = read_triples(self.triples, kb.catalogue) if self.triples else []
        every = max(len(questions) // MAX_REPLACED_ROWS, 1) if isinstance(questions, MentionStore) else 1
        pseudo = labelled_samples(self.pseudo, kb.catalogue) if self.pseudo else []
        return Synthesizer(kb.catalogue, triples, questions[::every], pseudo_labelled=pseudo, augmentation=settings.damage)

    def _checkpoint(self) -> str | None:
        from blink.training.start import is_checkpoint

        return self.checkpoint or (self.model if is_checkpoint(self.model) else None)

    def _weights(self) -> list[Path]:
        """Weight files of the model that is trained further."""
        if (checkpoint := self._checkpoint()) is None:
            return []
        path = Path(checkpoint)
        return sorted(p for p in path.iterdir() if p.suffix in (".safetensors", ".bin")) if path.is_dir() else [path]


def shared_texts(questions: Sequence[Sample], dev: Sequence[Sequence[Sample]]) -> str | None:
    """A warning about development texts that are trained on; None without such texts, or if texts are read from disk."""
    if isinstance(questions, MentionStore):
        return None
    trained = {" ".join(sample.text.casefold().split()) for sample in questions}
    texts = [" ".join(sample.text.casefold().split()) for samples in dev for sample in samples]
    shared = sum(text in trained for text in texts)
    if not shared:
        return None
    return f"{shared} of {len(texts)} development texts are training texts too: epoch and threshold are selected on known texts"


def default_folder(settings: TrainSettings, data: str, model: str, config: ModelConfig) -> Path:
    """The folder that the original's script names after data and settings.

    ``data`` is a folder, or a file that is named after its split or its data set.
    """
    path = Path(data)
    name = path.resolve().parent.name if path.stem in ("train", "valid", "dev") else path.resolve().with_suffix("").name
    size = Path(model).name.removeprefix("bert-").removesuffix("-uncased")
    fields = [
        "all_mention_biencoder", config.aggregation, "true", str(config.max_context_length),
        str(settings.entity_tower == "frozen").lower(), str("hard_negatives" in settings.objective).lower(),
        "bert", size, config.mention_scorer,
    ]  # fmt: skip
    return Path("experiments") / name / "_".join(fields)
