"""The session: the last analysis, the settings, and the commands that change them."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property

from blink.apps.shell.cards import SHELL, Look, no_links
from blink.apps.shell.commands import Command, command_named, count_from, help_text, number_from
from blink.apps.shell.complete import Name, names_of
from blink.apps.shell.console import Cancelled, Console
from blink.apps.shell.explain import explanation, triple_of
from blink.apps.shell.render import Fragments, View, marked_text, ranks, threshold_text, wrapped
from blink.data.records import Link, LinkedText
from blink.data.text_lines import check_text
from blink.errors import BlinkError, SettingsError
from blink.linking.analysis import Analysis
from blink.linking.decoder import Thresholds
from blink.linking.linker import Linker
from blink.linking.opening import threshold_warning
from blink.linking.scales import Scale, scale_of

MOST_TITLES = 50_000
"""Catalogues with more entities do not complete titles: reading them all would stall the first Tab."""
LONG_TEXT = 10_000
"""Longer texts, in characters, are announced before the model runs, and are not added to the history."""


class Leave(Exception):
    """The user wants to leave the session."""


class Session:
    """A session: the last analysis, the links decoded from it, and the settings for decoding and display.

    Args:
        linker: links the texts; it is not changed.
        console: the user.
        look: prompts and the form of answers.
        k: candidates listed per link, the winner included.
        batch_size: windows of a long text that go through the model at once.
    """

    def __init__(self, linker: Linker, console: Console, look: Look = SHELL, *, k: int = 3, batch_size: int = 64) -> None:
        self.linker = linker
        self.console = console
        self.look = look
        self.k = min(k, self.most_candidates)
        self.batch_size = batch_size
        self.thresholds = linker.thresholds
        self.analysis: Analysis | None = None
        self.linked: LinkedText | None = None
        self._cancelled = False  # whether the last line was

    @property
    def most_candidates(self) -> int:
        """Candidates that the linker retrieves per mention."""
        return self.linker.options.entities

    @property
    def view(self) -> View:
        """Current display options."""
        return View(self.console.width, self.console.colour, self.k)

    @property
    def prompt(self) -> str:
        """The prompt for the next line."""
        return self.look.first if self.analysis is None else self.look.after

    @cached_property
    def names(self) -> list[Name]:
        """Names of entities to complete; none where the catalogue is large."""
        catalogue = self.linker.catalogue
        return names_of(catalogue) if len(catalogue) <= MOST_TITLES else []

    def toolbar(self) -> Fragments:
        """Settings in a line, and the available keys."""
        keys = ":help · Ctrl-D leaves" if self.analysis is None else ":explain N · :help · Ctrl-D leaves"
        settings = f"threshold {threshold_text(self.threshold)} · k {self.k} · {len(self.linker.catalogue):,} entities"
        return [("", f" {settings}  │  {keys}")]

    # How links are scored and filtered in the linker's mode.

    @property
    def scale(self) -> Scale:
        """Descriptions of scores and thresholds."""
        return scale_of(self.linker.mode)

    @property
    def _deciding(self) -> str | None:
        """The field of `Thresholds` that the linker's mode uses; None if it uses none."""
        if self.linker.mode == "top_entity_by_mention":
            return "mention"
        return None if self.linker.mode in ("top_joint_by_mention", "best_entity_by_mention") else "score"

    @property
    def threshold(self) -> float | None:
        """The threshold in use, or None if the linker's mode has none."""
        return None if self._deciding is None else getattr(self.thresholds, self._deciding)

    def _require_threshold(self) -> str:
        if self._deciding is None:
            raise SettingsError(f"thresholding {self.linker.mode} keeps the best entity of every span; it has no threshold")
        return self._deciding

    # Turns of the conversation.

    def run(self) -> None:
        """Answer lines until the user leaves."""
        while True:
            try:
                self._turn()
            except (EOFError, Leave):
                return
            except KeyboardInterrupt:
                # Between two prompts Ctrl-C is a signal, and not a key: it may come anywhere, even while we print.
                if self._cancelled:
                    return
                self.console.show([("class:faint", "\nstopped\n")])

    def _turn(self) -> None:
        try:
            line = self.console.ask(self.prompt)
            self._cancelled = False
            self.console.show(self.handle(line))
        except Cancelled as stop:
            if self._cancelled and not stop.line:
                raise Leave from stop
            self._cancelled = True
            self.console.show([("class:faint", "Ctrl-C once more, or Ctrl-D, leaves\n")])
        except BlinkError as error:
            self._complain(error)

    def _complain(self, error: BlinkError) -> None:
        self.console.show([("class:error", wrapped(str(error), self.console.width))])

    def handle(self, line: str) -> Fragments:
        """Execute a line, and return the output.

        Raises:
            BlinkError: the line cannot be followed; the message says why.
            Leave: it says so.
        """
        if not line.strip():
            return []
        if line.rstrip() in ("n", "c"):
            return self.next_text() if line[0] == "n" else self.ask_threshold()
        if line.startswith(":"):
            name, _, argument = line[1:].partition(" ")
            return command_named(name, COMMANDS).run(self, argument.strip())
        return self.read(line)

    def read(self, text: str) -> Fragments:
        """Run the model over a text and show its links."""
        check_text(text, "the text")
        self.next_text()
        if len(text) > LONG_TEXT:
            self.console.show([("class:faint", f"reading {len(text):,} characters; Ctrl-C stops\n")])
        linked, analysis = self.linker.explain(text, self.thresholds, batch_size=self.batch_size)
        self.linked, self.analysis = linked, analysis
        return self.answer()

    def next_text(self) -> Fragments:
        """Forget the last answer."""
        self.analysis = self.linked = None
        return []

    def answer(self) -> Fragments:
        """The links of the last text."""
        if self.analysis is None or self.linked is None:
            return []
        links = self.linked.links
        view, positions = self.view, ranks(links)
        fragments = [*marked_text(self.linked, view.colour), ("", "\n")]
        for number, (link, rank) in enumerate(zip(links, positions, strict=True), 1):
            entity = self.linker.catalogue[link.row]
            fragments += self.look.card(number, link, rank, entity, triple_of(self.analysis, link), view)
        if not links:
            fragments += no_links(self._best_guess(self.analysis), self.threshold)
        return [*fragments, ("", "\n")]

    def _best_guess(self, analysis: Analysis) -> Link | None:
        lowest = Thresholds(-math.inf, None if self.thresholds.mention is None else -math.inf)
        return max(self.linker.decode(analysis, lowest).links, key=lambda link: link.score, default=None)

    # Commands.

    def ask_threshold(self) -> Fragments:
        """Ask for a threshold until it is one, and filter the last analysis again; Ctrl-C keeps the old one."""
        self._require_threshold()
        scale = self.scale
        brief = f"; {scale.brief}" if scale.brief else ""
        self.console.show([("", f"the threshold is {threshold_text(self.threshold)}{brief}\n")])
        hint = f"a number such as {scale.example}, or {scale.everything} to see everything; Ctrl-C keeps the threshold as it is"
        while True:
            try:
                typed = self.console.ask("new threshold: ", hint)
                return self.set_threshold(number_from(typed, scale))
            except Cancelled:
                return [("class:faint", f"the threshold stays at {threshold_text(self.threshold)}\n")]
            except SettingsError as error:
                self._complain(error)

    def set_threshold(self, threshold: float) -> Fragments:
        """Keep links that score above ``threshold``; the last analysis is filtered again, without the model."""
        self.thresholds = replace(self.thresholds, **{self._require_threshold(): threshold})
        warning = threshold_warning(self.linker.mode, threshold)
        fragments: Fragments = [("class:error", warning + "\n")] if warning else []
        if self.analysis is None:
            return [*fragments, ("class:faint", f"the threshold is now {threshold:g}\n")]
        self.linked = self.linker.decode(self.analysis, self.thresholds)
        return [*fragments, *self.answer()]

    def threshold_command(self, argument: str) -> Fragments:
        """``:threshold [X]``."""
        if argument:
            return self.set_threshold(number_from(argument, self.scale))
        self._require_threshold()
        return [("", f"the threshold is {threshold_text(self.threshold)}; :threshold X changes it\n")]

    def k_command(self, argument: str) -> Fragments:
        """``:k [N]``."""
        if argument:
            self.k = count_from(argument, self.most_candidates, "k")
            if self.analysis is not None:
                return self.answer()
        return [("", f"{self.k} of {self.most_candidates} candidates are listed per link, the winner included\n")]

    def explain_command(self, argument: str) -> Fragments:
        """``:explain N``."""
        if self.analysis is None or self.linked is None:
            raise SettingsError("there is no answer to explain; type a text first")
        links = self.linked.links
        if not links:
            raise SettingsError("the last text has no links to explain; lower the threshold with c")
        number = count_from(argument, len(links), "the link") if argument or len(links) > 1 else 1
        return explanation(number, self.linked, self.analysis, self.linker, self.view)

    def help_command(self, argument: str) -> Fragments:
        """``:help``."""
        return help_text(COMMANDS, self.most_candidates, self.view.room, self.scale)

    def quit_command(self, argument: str) -> Fragments:
        """``:quit``."""
        raise Leave


COMMANDS = {
    "threshold": Command("X", "keep links that score above X; filters the last answer again", Session.threshold_command),
    "k": Command("N", "list N candidates under each link, the winner included", Session.k_command),
    "explain": Command("N", "why link N was made, and what lost against it", Session.explain_command),
    "help": Command("", "this list", Session.help_command),
    "quit": Command("", "leave", Session.quit_command),
}
"""Colon commands by name; an unambiguous prefix is enough."""
