"""The stages of a linker, and how they are built from a model, a knowledge base and options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from blink.data.prior_file import NO_PRIOR, Prior, read_prior
from blink.errors import MismatchError, SettingsError
from blink.kb.index.on_gpu import for_device
from blink.kb.index.selector import RowSelector
from blink.kb.live.view import BaseFiles, View
from blink.kb.where import WhereLike
from blink.linking.candidates import CandidateGenerator
from blink.linking.coherence import Coherence, PriorStages
from blink.linking.document import Document
from blink.linking.features import CandidateFeaturizer
from blink.linking.graph_prior import EntityAlignment, GraphPrior, scorer_fingerprint, weights_for
from blink.linking.mention_detector import DetectorOptions, MentionDetector
from blink.linking.reranker import Reranker
from blink.linking.splitting import SpanSplitter
from blink.linking.windows import Windows
from blink.model.config import FEATURE_GROUPS
from blink.model.linking_model import LinkingModel
from blink.model.tokenizer import Tokenizer


@dataclass(frozen=True)
class LinkerOptions:
    """Options of a `Linker`, see there."""

    threshold: float | None = None
    mode: str | None = None
    mention_threshold: float | None = None
    mentions: int = 50
    entities: int = 10
    rank: bool = True
    without: Sequence[str] = ()
    prior: str | Path | Prior | None = None
    context_length: int | None = None
    window_length: int | None = None
    document: bool | None = None
    min_mention_log_prob: float = float("-inf")
    precision: str = "auto"
    device: str | None = None
    backend: str = "auto"
    where: WhereLike = None

    def __post_init__(self) -> None:
        for name, value in (("mentions", self.mentions), ("entities", self.entities)):
            if value < 1:
                raise SettingsError(f"{name} is {value}; it must be at least 1")
        unknown = [group for group in self.without if group not in FEATURE_GROUPS]
        if unknown:
            raise SettingsError(f"there is no feature group {unknown[0]!r}; allowed are {', '.join(FEATURE_GROUPS)}")

    @property
    def prior_file(self) -> Path | None:
        """The file of the prior, if it is one."""
        return Path(self.prior) if isinstance(self.prior, str | Path) and self.prior != NO_PRIOR else None


@dataclass(frozen=True)
class Stages:
    """Everything between a text and its analysis, in order. Stages that may be None are optional."""

    tokenizer: Tokenizer
    windows: Windows
    detector: MentionDetector
    splitter: SpanSplitter | None
    candidates: CandidateGenerator
    featurizer: CandidateFeaturizer | None
    reranker: Reranker | None
    graph_prior: GraphPrior | None
    coherence: Coherence | None
    document: Document | None

    @classmethod
    def build(cls, model: LinkingModel, files: BaseFiles, options: LinkerOptions) -> Stages:
        """The stages of a model over the files of a knowledge base, whatever was edited since; see `following`.

        Raises:
            MismatchError: model and knowledge base do not belong together.
            SettingsError: an option is out of range.
        """
        reranker = _reranker(model, files, options)
        prior = _prior_stages(model, files, reranker, options)
        if model.entity_size != files.index.dim:
            raise MismatchError(
                f"the model makes vectors of {model.entity_size} numbers, the knowledge base holds vectors of "
                f"{files.index.dim}; build the knowledge base with this model (`blink kb build --model`)"
            )
        selection = DetectorOptions(options.mentions, options.min_mention_log_prob, whole_words=model.config.whole_words)
        backend, index = model.backend, files.index
        if backend.device != "cpu":
            index = for_device(index, files.vectors, options.device or backend.device)
        detector = MentionDetector(backend, model.tokenizer, model.config.max_mention_length, selection)
        return cls(
            model.tokenizer,
            _windows(model, detector, options),
            detector,
            SpanSplitter(files.catalogue, files.names) if model.config.hard_breaks else None,
            CandidateGenerator(index, options.entities, files.names, files.vectors),
            None if files.names is None else CandidateFeaturizer(files.names),
            reranker,
            None if prior is None else prior.graph_prior,
            None if prior is None else prior.coherence,
            _document(model, files, reranker, options),
        )

    def following(self, view: View) -> Stages:
        """The same over a state of the files that they were built over; themselves where nothing was edited."""
        index = view.searched(self.candidates.index)
        if index is self.candidates.index:
            return self
        catalogue, names, prior = view.catalogue, view.names, self.graph_prior
        alignment = None if prior is None else prior.alignment.following(view)
        return replace(
            self,
            splitter=None if self.splitter is None else SpanSplitter(catalogue, names),
            candidates=CandidateGenerator(index, self.candidates.size, names, view.vectors),
            featurizer=None if names is None else CandidateFeaturizer(names, view.n_entities),
            graph_prior=None if prior is None or alignment is None else prior.over(alignment),
            coherence=None if self.coherence is None or alignment is None else self.coherence.over(alignment),
            document=None if self.document is None else Document(catalogue),
        )

    def filtered(self, selector: RowSelector) -> Stages:
        """The same where some rows alone may be linked. Stages without a method ``filtered`` stay as they are."""
        names = [f.name for f in fields(Stages) if hasattr(getattr(self, f.name), "filtered")]
        return replace(self, **{name: getattr(self, name).filtered(selector) for name in names})

    def replaced(self, changes: Mapping[str, Any]) -> Stages:
        """The same stages but some, by name.

        Raises:
            SettingsError: there is no stage of a name.
        """
        names = [f.name for f in fields(Stages)]
        unknown = sorted(changes.keys() - set(names))
        if unknown:
            raise SettingsError(f"there is no stage {unknown[0]!r}; there are {', '.join(names)}")
        return replace(self, **changes)


def _windows(model: LinkingModel, detector: MentionDetector, options: LinkerOptions) -> Windows:
    length = model.config.max_context_length if options.context_length is None else options.context_length
    if not 3 <= length <= detector.positions:
        raise SettingsError(f"context_length is {length}; this model reads 3 to {detector.positions} tokens at once")
    target = model.config.window_length if options.window_length is None else options.window_length
    if target and target < 3:
        raise SettingsError(f"window_length is {target}; it must be at least 3, or 0 for windows of a fixed length")
    return Windows(model.tokenizer, length, model.config.max_mention_length, target)


def _document(model: LinkingModel, files: BaseFiles, reranker: Reranker | None, options: LinkerOptions) -> Document | None:
    enabled = model.config.document if options.document is None else options.document
    return Document(files.catalogue) if enabled and reranker is not None else None


def _reranker(model: LinkingModel, files: BaseFiles, options: LinkerOptions) -> Reranker | None:
    if not options.rank or model.reranker is None or files.names is None or files.vectors is None:
        return None
    left_out = {feature for group in options.without for feature in FEATURE_GROUPS[group]}
    # A reranker of an earlier version has fewer features.
    return Reranker(model.reranker.without([name for name in model.reranker.features if name in left_out]))


def _prior_stages(
    model: LinkingModel, files: BaseFiles, reranker: Reranker | None, options: LinkerOptions
) -> PriorStages | None:
    """The prior joined to the knowledge base, with its weights for the scores that it is added to."""
    if options.prior is None or options.prior == NO_PRIOR:
        return None
    prior = options.prior if isinstance(options.prior, Prior) else read_prior(options.prior)
    weights = weights_for(prior, scorer_fingerprint(model, None if reranker is None else reranker.network))
    if len(weights.text) and weights.text.shape[1] != model.entity_size:
        sizes = f"{weights.text.shape[1]}-dimensional mention vectors, the model has {model.entity_size} dimensions"
        raise MismatchError(f"the prior is tuned for {sizes}; tune it for this model: blink kglm tune-prior")
    return PriorStages.from_prior(prior.table, weights, EntityAlignment(prior.table, files.catalogue))
