"""``blink export``: a model in another format."""

from __future__ import annotations

import click

from blink.apps.common import bar


@click.command()
@click.argument("model", metavar="[MODEL]", required=False)
@click.option("--onnx", is_flag=True, required=True, help="For ONNX Runtime, which needs no PyTorch.")
@click.option(
    "--int8", is_flag=True, help="Also in 8 bits: faster, a quarter of the size, about one link in a hundred changes."
)
@click.option("--out", metavar="DIR", help="A new folder.  [default: where linking looks for it]")
def export(model: str | None, onnx: bool, int8: bool, out: str | None) -> None:
    """Write the context encoder of MODEL, the starter by default, for ONNX Runtime, and compare it with PyTorch.

    Linking exports at first use by itself; this is for doing it before, for int8, and for another folder.

    \b
    Examples:
      blink export --onnx my-model --int8
      blink export --onnx my-model --out my-model-onnx
    """
    from blink.evaluation.speed.backends import export_and_compare

    for line in export_and_compare(model, out, int8, bar):
        click.echo(line)
