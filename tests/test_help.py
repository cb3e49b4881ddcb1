"""What the commands say without arguments, in their help, and to mistyped names."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator

import click
import pytest
from outcomes import done, one_clear_line

from blink.apps import model_options
from blink.apps.cli import cli
from blink.apps.sections import REST, SectionedCommand
from blink.apps.slurm.options import CLUSTER_SECTIONS
from blink.compat.elq.training import FLAGS

Run = Callable[..., tuple[int, str, str]]

WIDTH = 80


def contexts(command: click.Command, context: click.Context) -> Iterator[click.Context]:
    """The command and all commands below it, each as its help is printed."""
    context.terminal_width = WIDTH
    yield context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from contexts(below, below.context_class(below, info_name=name, parent=context))


CONTEXTS = {c.command_path: c for c in contexts(cli, cli.context_class(cli, info_name="blink"))}
GROUPS = [path for path, c in CONTEXTS.items() if isinstance(c.command, click.Group)]
COMMANDS = [path for path in CONTEXTS if path not in GROUPS]
SECTIONED = [path for path, c in CONTEXTS.items() if isinstance(c.command, SectionedCommand)]


@pytest.mark.quick
def test_there_are_all_commands() -> None:
    assert {"blink", "blink kb", "blink slurm", "blink kglm", "blink kglm embed", "blink resolve"} <= set(GROUPS)
    assert len(COMMANDS) > 40
    assert {"blink link", "blink train", "blink eval", "blink rank", "blink kb build", "blink slurm train"} <= set(SECTIONED)


@pytest.mark.quick
@pytest.mark.parametrize("path", CONTEXTS)
def test_help_teaches_on_a_terminal_of_80_columns(path: str) -> None:
    text = CONTEXTS[path].get_help()
    assert [line for line in text.splitlines() if len(line) > WIDTH] == []
    assert f"Usage: {path}" in text
    assert "Example" in text or "Try:" in text
    assert CONTEXTS[path].command.get_short_help_str(200)
    options = [p for p in CONTEXTS[path].command.params if isinstance(p, click.Option) and not p.hidden]
    assert [p.opts for p in options if not p.help] == []
    assert "``" not in text


@pytest.mark.quick
@pytest.mark.parametrize("path", CONTEXTS)
def test_examples_are_commands_that_there_are(path: str) -> None:
    """Continued lines are read as a shell reads them."""
    text = CONTEXTS[path].get_help().replace(" \\\n", " ")
    for line in text.splitlines():
        if line.startswith("    blink ") and "COMMAND" not in line:
            arguments = line.split()
            assert any(" ".join(arguments[:n]) in COMMANDS for n in (2, 3, 4)), line


@pytest.mark.parametrize("path", GROUPS)
def test_a_group_alone_prints_its_help(blink: Run, path: str) -> None:
    out, err = done(blink(*path.split()[1:]))
    assert out.startswith(f"Usage: {path} [OPTIONS] COMMAND")
    assert "\nCommands:\n" in out
    assert err == ""


@pytest.mark.parametrize(
    "path", [p for p in COMMANDS if any(x.required for x in CONTEXTS[p].command.params) and p != "blink slurm task"]
)
def test_what_is_missing_is_said_with_the_usage(blink: Run, path: str) -> None:
    status, out, err = blink(*path.split()[1:])
    assert (status, out) == (2, "")
    one_clear_line(status, err, "Missing", f"usage: {path} ", f"(see: {path} --help)")
    required = [p for p in CONTEXTS[path].command.params if p.required]
    usage = err.split("usage: ")[1].split(" (see")[0]
    for parameter in required:
        name = parameter.make_metavar(CONTEXTS[path]) if isinstance(parameter, click.Argument) else max(parameter.opts, key=len)
        assert name in usage
    assert len(err) < 240


@pytest.mark.parametrize(
    ("typed", "suggested"),
    [
        ("lnk", "did you mean link?"),
        ("evaluate", "did you mean eval?"),
        ("kb serch", "did you mean search?"),
        ("slurm trian", "did you mean train?"),
        ("kglm tune", "did you mean tune-prior?"),
        ("kglm embed entity", "did you mean entities?"),
        ("resolve rn", "did you mean run?"),
        ("history", "did you mean kb history?"),
        ("qqq", "there are link, shell"),
        ("kb qqq", "there are build, new"),
        ("link x --treshold 1", "Did you mean '--threshold'?"),
        ("eval x --jsn y", "--json"),
    ],
)
def test_typing_errors_are_answered_with_what_there_is(blink: Run, typed: str, suggested: str) -> None:
    status, out, err = blink(*typed.split())
    assert out == ""
    one_clear_line(status, err, suggested, "--help)")


@pytest.mark.parametrize("typed", ["", " ", "-", "kb ''", "--"])
def test_odd_names_are_one_line_too(blink: Run, typed: str) -> None:
    status, _, err = blink(*(shlex.split(typed) if typed.strip() else [typed]))
    one_clear_line(status, err, "blink: ", "blink --help" if typed != "kb ''" else "blink kb --help")


@pytest.mark.quick
@pytest.mark.parametrize("path", SECTIONED)
def test_every_option_is_in_one_section(path: str) -> None:
    context = CONTEXTS[path]
    command = context.command
    assert isinstance(command, SectionedCommand)
    listed = [name for names in command.sections.values() for name in names]
    assert len(listed) == len(set(listed))
    visible = {p.name for p in command.params if isinstance(p, click.Option) and not p.hidden}
    assert visible - set(listed) == set()
    shared = {name for group in SHARED for names in group.values() for name in names}
    assert set(listed) - visible - shared == set()
    text = context.get_help()
    titles = [f"\n{title}:\n" for title in command.sections if set(command.sections[title]) & visible]
    places = [text.index(title) for title in titles]
    assert places == sorted(places)
    assert text.index(f"\n{REST}:\n") > places[-1]
    for parameter in command.params:
        if parameter.name in visible:
            assert text.count(f"\n  {parameter.opts[0]}") >= 1


SHARED = (*(getattr(model_options, name) for name in dir(model_options) if name.endswith("_SECTION")), CLUSTER_SECTIONS)
"""Sections of several commands, none of which need have all of their options."""


@pytest.mark.quick
def test_training_shows_the_most_used_first_and_the_original_s_flags_last() -> None:
    text = CONTEXTS["blink train"].get_help()
    first, last = text.index("\n  --train FILE"), text.index("Flags of the original's training script:")
    for name in ("--kb", "--epochs", "--mix", "--objective", "--warmup", "--keep-epochs"):
        assert first < text.index(f"\n  {name} ") < last
    assert text.index("\n  --epochs ") < text.index("\n  --warmup ") < text.index("\n  --log-steps ")
    of_original = text[last:]
    assert all(f"--{flag.name}" in of_original for flag in FLAGS)
    meaning = dict(line.split(maxsplit=1) for line in of_original.splitlines() if " sets " in line)
    assert meaning["--data_path"] == "sets --data"
    assert meaning["--fp16"] == "sets --precision fp16"
    assert meaning["--shuffle"] == "sets --no-in-order"
    assert meaning["--no_cuda"] == "sets --device cpu"
