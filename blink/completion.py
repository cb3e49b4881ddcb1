"""Completion of ``blink`` in bash, zsh and fish: scripts of click, where shells look for them, and what values complete to."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem, get_completion_class

from blink.errors import SettingsError
from blink.files import atomic_open

SHELLS = ("bash", "zsh", "fish")
PROGRAM, VARIABLE = "blink", "_BLINK_COMPLETE"
_STARTS_COMPLETION = {"zsh": "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }\n"}
"""What must run before the script, by shell: zsh loads its completion on request."""


@dataclass(frozen=True)
class Installed:
    """Where completion was installed.

    Attributes:
        script: the file with the script.
        startup: the file of the shell that reads it; None where the shell finds it itself.
        changed: the files that were changed.
    """

    script: Path
    startup: Path | None
    changed: tuple[Path, ...]


def script_of(shell: str) -> str:
    """The script that a shell reads to complete ``blink``.

    Raises:
        SettingsError: there is none for this shell.
    """
    kind = get_completion_class(shell) if shell in SHELLS else None
    if kind is None:
        fault = f"there is no completion for {shell}" if shell else "your shell is not known ($SHELL is not set)"
        raise SettingsError(f"{fault}; there is for {', '.join(SHELLS)}: give one by name")
    made = kind(click.Group(PROGRAM), {}, PROGRAM, VARIABLE)
    return _STARTS_COMPLETION.get(shell, "") + made.source_template % made.source_vars()


def current_shell() -> str:
    """The name of the user's shell, by ``$SHELL``, else the one of logins; empty where neither is known."""
    return Path(os.environ.get("SHELL") or _login_shell()).name


def _login_shell() -> str:
    """The user's shell as the system has it: jobs and containers start without ``$SHELL``."""
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_shell
    except (ImportError, KeyError):  # not a POSIX system, or a user without an entry
        return ""


def install(shell: str) -> Installed:
    """Install completion for the user; a second time changes nothing.

    Raises:
        SettingsError: there is none for this shell, or its startup file is no text.
    """
    text = script_of(shell)
    script, startup = _files(shell)
    changed = [script] if _write(script, text) else []
    if startup is not None:
        line = f'[ -r "{script}" ] && . "{script}"  # completion of {PROGRAM}'
        lines = _read(startup)
        if str(script) not in lines:
            separator = "" if not lines or lines.endswith("\n") else "\n"
            _write(startup, f"{lines}{separator}{line}\n")
            changed.append(startup)
    return Installed(script, startup, tuple(changed))


def as_lines(installed: Installed) -> list[str]:
    """What was installed, for a reader."""
    if not installed.changed:
        return [f"completion is installed already: {installed.script}"]
    return [*(f"wrote {file}" for file in installed.changed), "it begins with the next shell that you open"]


def _files(shell: str) -> tuple[Path, Path | None]:
    """The file of the script, and the startup file that reads it."""
    home = Path.home()
    if shell == "fish":  # which reads all files of this folder
        return _variable("XDG_CONFIG_HOME", home / ".config") / "fish" / "completions" / f"{PROGRAM}.fish", None
    script = _variable("XDG_DATA_HOME", home / ".local" / "share") / PROGRAM / f"completion.{shell}"
    return script, (_variable("ZDOTDIR", home) / ".zshrc" if shell == "zsh" else home / ".bashrc")


def _variable(name: str, default: Path) -> Path:
    return Path(os.environ.get(name) or default)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8") if file.exists() else ""
    except UnicodeDecodeError as error:
        raise SettingsError(
            f"{file} is no text; put the output of `blink --show-completion` where your shell reads it"
        ) from error


def _write(file: Path, text: str) -> bool:
    """Write a file whole, unless it holds the text already; links of dotfiles stay links."""
    target = file.resolve()
    if target.exists() and _read(target) == text:
        return False
    mode = target.stat().st_mode if target.exists() else None
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_open(target, "w") as f:
        f.write(text)
    if mode is not None:
        target.chmod(mode & 0o777)
    return True


# -- values


class FolderName(click.types.StringParamType):
    """The name of a folder of a kind, or of something that has no folder.

    Args:
        marker: a file of each such folder.
        others: names without a folder.
    """

    name = "text"

    def __init__(self, marker: str, others: tuple[str, ...] = ()) -> None:
        self.marker, self.others = marker, others

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Folders of the kind, one level deep; where there are none, whatever folders the shell lists."""
        parent, slash, start = incomplete.rpartition("/")
        try:
            entries = sorted(Path(parent or slash or ".").iterdir())
        except OSError:
            entries = []
        folders = [entry.name for entry in entries if entry.name.startswith(start) and (entry / self.marker).is_file()]
        items = [CompletionItem(f"{parent}{slash}{name}") for name in folders]
        items += [CompletionItem(name) for name in self.others if name.startswith(incomplete) and name not in folders]
        return items or [CompletionItem(incomplete, type="dir")]


def completing(command: click.Command) -> click.Command:
    """A command whose texts that name files and folders complete to these; only for a completion."""
    # Imported here: help needs neither.
    from blink.kb.manifest import MANIFEST_FILE
    from blink.model.folder import CONFIG_FILE, PACKAGED_ENCODERS

    for param in command.params:
        if not isinstance(param.type, click.types.StringParamType):
            continue
        label = (getattr(param, "metavar", None) or param.name or "").upper()
        if param.name == "model":
            param.type = FolderName(CONFIG_FILE, ("starter", *PACKAGED_ENCODERS))
        elif param.name == "kb" or label in ("DIR", "FOLDER"):
            param.type = FolderName(MANIFEST_FILE)
        elif "FILE" in label or label in ("OUT", "TEXTS", "CSV", "SOURCE", "PATH"):
            param.type = click.Path()
    return command


# -- options of `blink`


def completion_options(command: Any) -> Any:
    """A decorator that gives ``blink`` its options ``--install-completion`` and ``--show-completion``."""
    for flag, callback, text in (
        ("--show-completion", _show, "Print the completion script of your shell, or of SHELL."),
        ("--install-completion", _install, "Let your shell, or SHELL, complete commands, options and folders."),
    ):
        # Not eager: --help beside them shows the help and installs nothing.
        how: dict[str, Any] = {"is_flag": False, "flag_value": "", "expose_value": False}
        command = click.option(flag, metavar="[SHELL]", callback=callback, help=text, **how)(command)
    return command


def _show(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is None or ctx.resilient_parsing:
        return
    click.echo(script_of(value or current_shell()))
    ctx.exit()


def _install(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is None or ctx.resilient_parsing:
        return
    for line in as_lines(install(value or current_shell())):
        click.echo(line)
    ctx.exit()
