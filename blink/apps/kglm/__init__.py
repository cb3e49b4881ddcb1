"""``blink kglm``: embeddings from a graph and its texts. A command is imported when it is asked for."""

from __future__ import annotations

import importlib

import click

COMMANDS = {
    "train": "blink.apps.kglm.training:train",
    "resume": "blink.apps.kglm.training:resume",
    "eval": "blink.apps.kglm.results:evaluate",
    "export": "blink.apps.kglm.results:export",
    "generate": "blink.apps.kglm.generate:generate",
    "embed": "blink.apps.kglm.embed:embed",
    "reduce": "blink.apps.kglm.reduce:reduce",
    "plot": "blink.apps.kglm.plot:plot",
    "prior": "blink.apps.kglm.prior:prior",
    "weigh": "blink.apps.kglm.prior:weigh",
}
"""Name -> module and function. The modules import click at their head, and what does the work inside their functions."""


class _Lazy(click.Group):
    """A group whose commands are in `COMMANDS`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, function = COMMANDS[cmd_name].split(":")
        command: click.Command = getattr(importlib.import_module(module), function)
        return command


@click.group(cls=_Lazy)
def kglm() -> None:
    """Learn embeddings from a knowledge graph and its texts.

    What to learn stands in a run file (see examples/kglm); its kind decides the defaults. A run is a folder: settings.yaml,
    trace.jsonl, checkpoints, best/, metrics.json and curves.png. Needs: pip install 'blink-linker[kglm]'.

    \b
    Example:
      blink kglm train examples/kglm/k01_complex_codex_s.yaml --out experiments/complex
      blink kglm resume experiments/complex                     go on after a kill
      blink kglm eval experiments/complex --split test
      blink kglm export experiments/complex --out vectors       for the linker
    """
