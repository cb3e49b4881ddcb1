"""``POST /corrections``: what a reader says about a link, kept in a mention file."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import Field

from blink.data.corrections import Corrections
from blink.data.text_lines import check_text
from blink.errors import DataError
from blink.serving.answers import Body, answer
from blink.serving.entities import row_of
from blink.serving.errors import ForbiddenError, TooLargeError
from blink.serving.service import Service
from blink.serving.tokens import EditedService

router = APIRouter(tags=["corrections"])


class CorrectedMention(Body):
    """A mention in a text."""

    text: str = Field(examples=["Java is an island."])
    """The whole text."""
    start: int = Field(ge=0, examples=[0])
    """First character of the mention."""
    end: int = Field(ge=1, examples=[4])
    """Character behind its last one."""

    def check(self, max_characters: int) -> None:
        """Check that the mention lies in a text that may be sent.

        Raises:
            DataError, TooLargeError: it does not.
        """
        if len(self.text) > max_characters:
            raise TooLargeError(f"the text has more than {max_characters:,} characters; send a shorter one")
        if not self.start < self.end <= len(check_text(self.text, "the text")):
            raise DataError(f"mention [{self.start}, {self.end}) is empty or outside the text; count characters")


class Correction(CorrectedMention):
    """What a mention names."""

    entity: str | int | None = Field(examples=["Q3757"])
    """Id or row of the entity that it names; null for none of the knowledge base."""


class SavedCorrection(Body):
    """A correction that was saved."""

    saved: bool
    """Whether it is in the file now."""
    row: int | None
    """Row of the entity; null for none."""


@router.post("/corrections", response_model=SavedCorrection, status_code=201)
async def correct(correction: Correction, service: EditedService) -> Response:
    """Save what a mention names, for evaluation and training; later ones replace earlier ones about the same characters."""
    file, kb = _file(service), service.kb
    correction.check(service.settings.max_characters)
    kb.refresh()
    row = None if correction.entity is None else row_of(kb, str(correction.entity))

    def save() -> None:
        corrections = Corrections()
        corrections.add(correction.text, correction.start, correction.end, None if row is None else kb.catalogue[row])
        corrections.save(file)

    await service.edits.call(save)
    service.metrics.edit("correction")
    return answer({"saved": True, "row": row}, 201)


@router.post("/corrections/remove", response_model=SavedCorrection)
async def remove(mention: CorrectedMention, service: EditedService) -> Response:
    """Take back what was saved about the characters of a mention, if anything was."""
    file = _file(service)
    mention.check(service.settings.max_characters)
    await service.edits.call(lambda: Corrections.forget(file, mention.text, mention.start, mention.end))
    service.metrics.edit("correction")
    return answer({"saved": False, "row": None})


def _file(service: Service) -> str:
    """The file of corrections.

    Raises:
        ForbiddenError: there is none.
    """
    if service.settings.corrections is None:
        raise ForbiddenError("corrections are off; start the server with --corrections FILE")
    return service.settings.corrections
