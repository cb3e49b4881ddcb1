"""The session: the last analysis, the settings, and the commands that change them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from blink.apps.shell.bases import Bases, kb_text
from blink.apps.shell.commands import Command, command_named, count_from, help_text, number_from
from blink.apps.shell.complete import Name, names_of
from blink.apps.shell.console import Cancelled, Console
from blink.data.corrections import Corrections
from blink.data.display import ranks
from blink.data.records import Entity, Link, LinkedText
from blink.data.text_lines import check_text
from blink.errors import BlinkError, SettingsError
from blink.explaining.cards import SHELL, Look, no_links
from blink.explaining.explain import link_explanation, triple_of
from blink.explaining.explanation import LEAST, explanation_of
from blink.explaining.render import Fragments, View, marked_text, threshold_text, wrapped
from blink.explaining.unlinked import is_words, words_explained
from blink.files import user_cache
from blink.kb.catalogue_line import line_of
from blink.kb.live.shown import edit_text, entity_text
from blink.linking.analysis import Analysis
from blink.linking.decoder import Thresholds
from blink.linking.linker import Linker
from blink.linking.opening import threshold_warning
from blink.linking.repair import Fix, fix_link, new_entity
from blink.linking.scales import Scale, scale_of

MOST_TITLES = 50_000
"""Catalogues with more entities do not complete titles: reading them all would stall the first Tab."""
CORRECTIONS_FILE = "corrections.jsonl"
"""File in the user's cache for corrections that were not saved."""
LEAVING = ("q", "quit", "exit")
"""Lines that end the session; with a blank before them they are texts."""
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
        bases: opens other knowledge bases for ``:kb FOLDER``; None where there are no others.
    """

    def __init__(
        self,
        linker: Linker,
        console: Console,
        look: Look = SHELL,
        *,
        k: int = 3,
        batch_size: int = 64,
        bases: Bases | None = None,
    ) -> None:
        self.linker = linker
        self.console = console
        self.bases = bases
        self.look = look
        self.k = min(k, self.most_candidates)
        self.batch_size = batch_size
        self.thresholds = linker.thresholds
        self.analysis: Analysis | None = None
        self.linked: LinkedText | None = None
        self.corrections = Corrections()
        """Links that the user put right, or said to be wrong."""
        self._unsaved = False
        self._fixes: dict[int, Fix] = {}  # by the number of their edit
        self._cancelled = False  # whether the last line was

    @property
    def most_candidates(self) -> int:
        """Candidates that the linker retrieves per mention."""
        return self.linker.options.entities

    @property
    def view(self) -> View:
        """Current display options."""
        least = LEAST[self.scale.kind]
        return View(self.console.width, self.console.colour, self.k, self.console.hyperlinks, least)

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
        """Answer lines until the user leaves; corrections that were not saved are kept in the user's cache."""
        while True:
            try:
                self._turn()
            except (EOFError, Leave):
                break
            except KeyboardInterrupt:
                # Between two prompts Ctrl-C is a signal, and not a key: it may come anywhere, even while we print.
                if self._cancelled:
                    break
                self.console.show([("class:faint", "\nstopped\n")])
        if self._unsaved:
            try:
                self.console.show(self.save_command(str(user_cache() / CORRECTIONS_FILE)))
            except (BlinkError, OSError) as error:
                self._complain(BlinkError(f"the corrections cannot be saved: {error}"))

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
        if line.rstrip() in LEAVING:
            raise Leave
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
            fragments += no_links(self._best_guess(self.analysis), self.threshold, view)
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
        """``:explain N``, ``:explain NAME``."""
        if self.analysis is not None and self.linked is not None and is_words(argument, self.linked):
            return words_explained(argument, self.linker, self.analysis, self.thresholds, self.view)
        number, _, analysis = self._numbered(argument, "explain")
        return link_explanation(number, explanation_of(self.linker, analysis, self.thresholds), self.view)

    def json_command(self, argument: str) -> Fragments:
        """``:json``."""
        if self.linked is None:
            raise SettingsError("there is no answer to print; type a text first")
        return [("", json.dumps(self.linked.to_json(), ensure_ascii=True) + "\n")]

    def _numbered(self, argument: str, what_for: str) -> tuple[int, LinkedText, Analysis]:
        """The number of a link of the last answer."""
        if self.analysis is None or self.linked is None:
            raise SettingsError(f"there is no answer to {what_for}; type a text first")
        links = self.linked.links
        if not links:
            raise SettingsError(f"the last text has no links to {what_for}; lower the threshold with c")
        number = count_from(argument, len(links), "the link") if argument or len(links) > 1 else 1
        return number, self.linked, self.analysis

    # The knowledge base, and edits of it.

    def kb_command(self, argument: str) -> Fragments:
        """``:kb [FOLDER]``."""
        if not argument:
            return kb_text(self.linker, self.bases)
        if self.bases is None:
            raise SettingsError("this dialogue has one knowledge base; blink shell --kb FOLDER links to another")
        self.linker = self.bases.switched(str(Path(argument).expanduser()), self.linker)
        self.thresholds, self._fixes = self.linker.thresholds, {}
        self.k = min(self.k, self.most_candidates)
        return self._edited(f"linking to {len(self.linker.catalogue):,} entities of {argument}; corrections stay noted")

    def add_command(self, argument: str) -> Fragments:
        """``:add TITLE | DESCRIPTION``."""
        try:
            if not argument:
                argument = self.console.ask("title: ", "the name of the entity; Ctrl-C adds nothing")
            if "|" not in argument:
                hint = "by which it is told from others of its name, such as: a moon of Saturn; Ctrl-C adds nothing"
                argument += " | " + self.console.ask("description: ", hint)
        except Cancelled:
            return [("class:faint", "nothing was added\n")]
        entity = self.linker.kb.add(new_entity(argument))
        return self._edited(f"added {entity_text(entity.row, line_of(entity))}; :undo takes it back")

    def fix_command(self, argument: str) -> Fragments:
        """``:fix N NAME``."""
        typed, _, name = argument.partition(" ")
        number, linked, _ = self._numbered(typed, "fix")
        link = linked.links[number - 1]
        try:
            hint = "the name or id of an entity; Ctrl-C leaves the link as it is"
            name = name.strip() or self.console.ask(f"what does “{link.mention}” name? ", hint)
        except Cancelled:
            return [("class:faint", "the link stays as it is\n")]
        fixed = fix_link(self.linker.kb, linked.text, link, name)
        self._note(linked.text, link, fixed.entity)
        if fixed.edit is not None:
            self._fixes[fixed.edit] = fixed
        called = entity_text(fixed.entity.row, line_of(fixed.entity))
        done = f"“{fixed.alias}” is now a name of {called}; :undo takes it back"
        fragments = self._edited(done if fixed.alias else f"“{link.mention}” is a name of {called} already")
        now = [x for x in self.linked.links if (x.start, x.end) == (link.start, link.end)] if self.linked else []
        if now and now[0].row != fixed.entity.row:
            fragments += [("class:faint", f"{now[0].title} still fits this text better; :explain says why\n")]
        return fragments

    def undo_command(self, argument: str) -> Fragments:
        """``:undo [NUMBER]``."""
        if argument and not (argument.isascii() and argument.isdigit()):
            raise SettingsError(f"the edit is {argument!r}; give its number (blink kb history), or nothing for the last")
        undone = self.linker.kb.undo(int(argument) if argument else None)
        for fixed in (self._fixes.pop(number) for number in undone.undoes if number in self._fixes):
            self.corrections.drop(fixed.text, fixed.link.start, fixed.link.end)
        return self._edited("\n".join(["undone:", *(f"  {edit_text(edit)}" for edit in undone.edits)]))

    # Corrections, from which a reranker learns.

    def wrong_command(self, argument: str) -> Fragments:
        """``:wrong N``."""
        number, linked, _ = self._numbered(argument, "correct")
        link = linked.links[number - 1]
        self._note(linked.text, link, None)
        return [("class:faint", f"noted: “{link.mention}” names nothing here; :save FILE keeps what is noted\n")]

    def right_command(self, argument: str) -> Fragments:
        """``:right [N]``."""
        if argument or self.linked is None:
            number, linked, _ = self._numbered(argument, "confirm")
            links = linked.links[number - 1 : number]
        else:
            linked, links = self.linked, self.linked.links
        for link in links:
            self._note(linked.text, link, self.linker.catalogue[link.row])
        named = ", ".join(f"“{link.mention}”" for link in links) or "nothing"
        return [("class:faint", f"noted as right: {named}; :save FILE keeps what is noted\n")]

    def _note(self, text: str, link: Link, entity: Entity | None) -> None:
        self.corrections.add(text, link.start, link.end, entity)
        self._unsaved = True

    def save_command(self, argument: str) -> Fragments:
        """``:save FILE``."""
        if not argument:
            raise SettingsError("the file is missing; give one, such as :save corrections.jsonl")
        if not len(self.corrections):
            raise SettingsError("nothing is noted yet; :wrong N, :right N and :fix N NAME note corrections")
        self.corrections.save(Path(argument).expanduser())
        self._unsaved = False
        learn = f"blink rank MODEL --update --kb KB --train {argument}"
        return [("class:faint", f"{len(self.corrections)} corrected texts are in {argument}; learn from them: {learn}\n")]

    def _edited(self, done: str) -> Fragments:
        """What was done, and the last text linked again."""
        self.__dict__.pop("names", None)  # which are read again
        answer = self.read(self.analysis.text) if self.analysis is not None else []
        return [("class:faint", f"{done}\n"), *answer]

    def help_command(self, argument: str) -> Fragments:
        """``:help``."""
        return help_text(COMMANDS, self.most_candidates, self.view.room, self.scale)

    def quit_command(self, argument: str) -> Fragments:
        """``:quit``."""
        raise Leave


COMMANDS = {
    "threshold": Command("X", "keep links that score above X; filters the last answer again", Session.threshold_command),
    "k": Command("N", "list N candidates under each link, the winner included", Session.k_command),
    "explain": Command(
        "N or NAME",
        "why link N was made, and what lost against it; why words of the text are not linked",
        Session.explain_command,
    ),
    "json": Command("", "print the answer as JSON", Session.json_command),
    "kb": Command("FOLDER", "the knowledge base, edits, model and prior; with FOLDER, link to that one", Session.kb_command),
    "add": Command(
        "TITLE", "add an entity: TITLE | DESCRIPTION; the last text is linked again", Session.add_command, completes=True
    ),
    "fix": Command(
        "N NAME", "link N should be the entity of this name or id; gives it the name", Session.fix_command, completes=True
    ),
    "undo": Command("", "take back the last edit, or the one of a number", Session.undo_command),
    "right": Command("N", "link N is right, all are without N: noted for :save", Session.right_command),
    "wrong": Command("N", "link N names nothing in the knowledge base: noted for :save", Session.wrong_command),
    "save": Command("FILE", "add what was noted, and fixes, to a mention file to learn from", Session.save_command),
    "help": Command("", "this list", Session.help_command),
    "quit": Command("", "leave", Session.quit_command),
}
"""Colon commands by name; an unambiguous prefix is enough."""
