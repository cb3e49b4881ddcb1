"""Where words occur in a text."""

from __future__ import annotations

import re


def occurrences(text: str, words: str, *, whole_words: bool = False) -> list[tuple[int, int]]:
    """Characters ``[start, end)`` of words in a text: as they are typed, or else in any letter case.

    Args:
        text: that is searched.
        words: what is searched for.
        whole_words: leave out those within longer words; otherwise these count where there are no others.
    """
    pattern = r"\s+".join(map(re.escape, words.split()))
    for flags in (re.RegexFlag(0), re.IGNORECASE) if pattern else ():
        found = list(re.finditer(rf"(?<!\w){pattern}(?!\w)", text, flags))
        if not found and not whole_words:
            found = list(re.finditer(pattern, text, flags))
        if found:
            return [match.span() for match in found]
    return []
