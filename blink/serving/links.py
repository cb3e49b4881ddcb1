"""``POST /link``: the links of texts."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import Field

from blink.data.records import LinkedText
from blink.errors import DataError
from blink.serving.answers import Body, answer
from blink.serving.errors import TooLargeError
from blink.serving.lane import TextResult
from blink.serving.service import ReadyService
from blink.serving.settings import ServerSettings

router = APIRouter(tags=["links"])
Span = Annotated[list[int], Field(min_length=2, max_length=2)]


class LinkRequest(Body):
    """One text, or several, and how to link them."""

    text: str | None = Field(None, examples=["The Nile flows through Egypt."])
    """A text. Give either this or ``texts``."""
    texts: list[str] | None = Field(None, examples=[None])
    """Several texts, which are linked together."""
    spans: list[Span] | list[list[Span]] | None = Field(None, examples=[None])
    """Own mentions, characters ``[start, end)``, which are all linked: a list for ``text``, a list of lists for ``texts``."""
    where: str | list[str] | None = Field(None, examples=[None])
    """Which entities may be linked, such as ``type=city|town``."""
    threshold: float | None = Field(None, allow_inf_nan=False, examples=[0.5])
    """Score above which links are kept; by default the model's own."""
    candidates: int | None = Field(None, ge=0, examples=[3])
    """Most candidates of each link; by default all."""
    descriptions: bool = Field(True, examples=[True])
    """Whether links have the descriptions and addresses of their entities."""
    explain: bool = Field(False, examples=[False])
    """Whether to add why each mention was linked, or not."""

    def all_texts(self) -> list[str]:
        """The texts.

        Raises:
            DataError: there are none, or both ``text`` and ``texts``.
        """
        if (self.text is None) == (self.texts is None):
            raise DataError("give either 'text' (a text) or 'texts' (a list of them)")
        return [self.text] if self.text is not None else list(self.texts or ())

    def all_spans(self) -> list[Any] | None:
        """A list of spans for each text; None without own mentions."""
        return None if self.spans is None else [self.spans] if self.text is not None else list(self.spans)


class LinkAnswer(Body):
    """The links of each text, in the order of the request."""

    results: list[dict[str, Any]]
    """For each text ``text``, ``links`` and, if it was asked for, ``explanation``."""
    threshold: float
    """Score above which links were kept."""


@router.post("/link", response_model=LinkAnswer)
async def link(request: LinkRequest, service: ReadyService) -> Response:
    """Link one text or several."""
    texts = request.all_texts()
    check_limits(texts, request.all_spans(), service.settings)
    results = await service.engine.link(
        texts, spans=request.all_spans(), where=request.where, threshold=request.threshold, explain=request.explain
    )
    service.metrics.links(sum(len(result.linked.links) for result in results))
    threshold = service.linker.thresholds.score if request.threshold is None else request.threshold
    return answer({"results": [_shown(result, request) for result in results], "threshold": threshold})


def check_limits(texts: list[str], spans: list[Any] | None, settings: ServerSettings) -> None:
    """Check that a request has no more than it may.

    Raises:
        TooLargeError: it has.
    """
    if len(texts) > settings.max_texts:
        raise TooLargeError(f"the request has {len(texts):,} texts; up to {settings.max_texts:,} are allowed, send several")
    longest = max(map(len, texts), default=0)
    if longest > settings.max_characters:
        raise TooLargeError(f"a text has {longest:,} characters; up to {settings.max_characters:,} are allowed")
    n_spans = sum(map(len, spans or ()))
    if n_spans > settings.max_spans:
        raise TooLargeError(f"the request has {n_spans:,} spans; up to {settings.max_spans:,} are allowed, send several")


def _shown(result: TextResult, request: LinkRequest) -> dict[str, Any]:
    shown = linked_json(result.linked, request.candidates, descriptions=request.descriptions)
    return shown if result.explanation is None else shown | {"explanation": result.explanation.to_json()}


def linked_json(linked: LinkedText, candidates: int | None = None, *, descriptions: bool = True) -> dict[str, Any]:
    """A text and its links as JSON, with at most so many candidates, and perhaps without descriptions and addresses."""
    shown = linked.to_json()
    for each in shown["links"]:
        if candidates is not None:
            del each["candidates"][candidates:]
        if not descriptions:
            del each["description"], each["url"]
    return shown
