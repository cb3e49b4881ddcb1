"""Resolves flags, with their defaults, to a plan."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

from blink.cluster.runs import CONFIG, is_model_folder
from blink.compat.elq.flags import DETECTORS, FINAL_THRESHOLDING, JOINT, OTHER_DETECTORS, THRESHOLD_TYPES
from blink.errors import SettingsError
from blink.linking.decoder import MODES


@dataclass(frozen=True)
class Files:
    """The original's files. ``index`` replaces ``vectors`` where it is given.

    ``weights`` may be the folder of a model that `blink train` wrote too, which holds its settings: then there are none.
    """

    weights: Path
    settings: Path | None
    catalogue: Path
    vectors: Path
    index: Path | None = None

    def needed(self) -> list[Path]:
        """Those that are read."""
        model = [self.weights / CONFIG] if self.settings is None else [self.weights, self.settings]
        return [*model, self.catalogue, self.index or self.vectors]


@dataclass(frozen=True)
class Plan:
    """What the flags come to.

    Attributes:
        files: the original's files, or None for the starter.
        interactive: type texts; otherwise a file is linked.
        test_mentions: that file.
        save_to: folder for predictions.
        detector: `JOINT`, `GOLD` or `SINGLE`.
        stored_tokens: insist on the tokens of the file.
        mode: one of `blink.linking.decoder.MODES`; None for the starter's own, which ranks candidates by all evidence.
        threshold: of links; None for the model's own.
        mention_threshold: raw mention score, for the modes by mention.
        min_mention_log_prob: mentions whose log probability is not above it are no mentions.
        mentions: most mentions per window.
        entities: candidates per mention.
        batch_size: inputs at once.
        context_length: input length; None for the model's own.
        precision: ``auto``, ``fp32`` or ``bf16``.
        device: ``cpu`` or ``cuda``.
        elq: do exactly as release E does.
        truncates: with ``elq``, keep the beginning of unlabelled texts that are too long; otherwise they are refused.
    """

    files: Files | None
    interactive: bool = False
    test_mentions: Path | None = None
    save_to: Path | None = None
    detector: str = JOINT
    stored_tokens: bool = False
    mode: str | None = "joint"
    threshold: float | None = None
    mention_threshold: float | None = None
    min_mention_log_prob: float = -math.inf
    mentions: int = 50
    entities: int = 10
    batch_size: int = 8
    context_length: int | None = None
    precision: str = "auto"
    device: str = "cpu"
    elq: bool = False
    truncates: bool = False


def resolve(options: argparse.Namespace) -> Plan | None:
    """Resolve options to a plan; None if there is nothing to do, where that is allowed.

    Raises:
        SettingsError: flags contradict each other, or there is nothing to do.
    """
    if not options.interactive and options.test_mentions is None:
        if options.qa_data:
            return None
        raise SettingsError("there is nothing to do; give -i to type texts, or --test_mentions FILE to link a file")
    files, elq = files_of(options), options.compat == "elq"
    mode = _mode(options, files)
    if elq and (options.interactive or _detector(options) != JOINT):
        raise SettingsError("--compat elq finds mentions in files; give --test_mentions FILE, without -i and with -n joint")
    threshold = _threshold(options, files)
    return Plan(
        files=files,
        interactive=options.interactive,
        test_mentions=None if options.interactive else Path(options.test_mentions),
        save_to=None if options.save_preds_dir is None else Path(options.save_preds_dir),
        detector=_detector(options),
        stored_tokens=options.do_ner == "joint_all_ents_pretokenized",
        mode=mode,
        threshold=threshold,
        mention_threshold=options.mention_threshold,
        min_mention_log_prob=_min_mention_log_prob(options, mode, threshold, elq),
        mentions=options.top_k,
        entities=options.num_cand_entities,
        batch_size=options.eval_batch_size,
        context_length=options.max_context_length,
        precision="fp32" if elq else options.precision,
        device="cuda" if options.use_cuda else "cpu",
        elq=elq,
    )


def files_of(options: argparse.Namespace) -> Files | None:
    """The original's files that flags name, with defaults for those not named; None where none is.

    Raises:
        SettingsError: settings are named for a model that holds its own.
    """
    named = (options.biencoder_model, options.biencoder_config, options.entity_catalogue, options.entity_encoding)
    if all(name is None for name in (*named, options.faiss_index, options.index_path)):
        return None
    weights = Path(options.biencoder_model or "models/elq_wiki_large.bin")
    settings = _settings_of(weights, options.biencoder_config)
    index = options.index_path
    if options.faiss_index == "none":
        index = None
    elif options.faiss_index is not None and index is None:
        index = f"models/faiss_{options.faiss_index}_index.pkl"
    return Files(
        weights,
        settings,
        Path(options.entity_catalogue or "models/entity.jsonl"),
        Path(options.entity_encoding or "models/all_entities_large.t7"),
        None if index is None else Path(index),
    )


def _settings_of(weights: Path, named: str | None) -> Path | None:
    if is_model_folder(weights):
        if named is not None:
            raise SettingsError(f"{weights} is a model folder, which holds its own settings; leave --biencoder_config out")
        return None
    default = weights.parent / "training_params.txt"
    return Path(named or (default if default.is_file() else "models/elq_large_params.txt"))


def _mode(options: argparse.Namespace, files: Files | None) -> str | None:
    old, new = FINAL_THRESHOLDING.get(options.final_thresholding), THRESHOLD_TYPES.get(options.threshold_type)
    if old is not None and new is not None and old != new:
        flags = f"--final_thresholding {options.final_thresholding} and --threshold_type {options.threshold_type}"
        raise SettingsError(f"{flags} contradict each other; give one of them")
    if old is None and new is None and files is None and options.threshold is None:
        return None
    mode = old or new or "joint"
    if MODES[mode].needs_mention_threshold and options.mention_threshold is None:
        raise SettingsError(f"--threshold_type {mode} needs --mention_threshold X, such as 0")
    return mode


def _detector(options: argparse.Namespace) -> str:
    if options.do_ner in OTHER_DETECTORS:
        raise SettingsError(f"-n {options.do_ner} needs a program that is no part of this one; use -n joint, none or single")
    detector = JOINT if options.do_ner is None else DETECTORS[options.do_ner]
    if options.interactive and detector != JOINT:
        raise SettingsError(f"-n {options.do_ner} works on a file; give --test_mentions FILE without -i, or use -n joint")
    return detector


def _threshold(options: argparse.Namespace, files: Files | None) -> float | None:
    if options.threshold is not None:
        return float(options.threshold)
    if files is None:
        return None
    # J has no flag for a threshold; its predictions and the published figures used this one.
    of_july = options.mention_classifier_threshold is not None or options.final_thresholding == "joint_0"
    return -2.9 if of_july and not options.interactive else -4.5


def _min_mention_log_prob(options: argparse.Namespace, mode: str | None, threshold: float | None, elq: bool) -> float:
    share = options.mention_classifier_threshold
    if share is not None:
        return math.log(share) if share > 0 else -math.inf
    if elq and mode is not None and MODES[mode].needs_mention_threshold:
        return float(options.mention_threshold)
    # A joint score is never above the mention's: there the threshold does the same. E prunes by it all the same, which
    # shows where nothing passes; and the modes that filter nothing else need some bound for what is a mention.
    if elq or mode in ("top_joint_by_mention", "best_entity_by_mention"):
        return -4.5 if threshold is None else threshold
    return -math.inf
