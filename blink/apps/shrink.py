"""``blink shrink``: a model of adapters in a smaller file."""

from __future__ import annotations

import click


@click.command()
@click.argument("model", metavar="DIR")
@click.option("--rank", type=click.IntRange(1), required=True, help="Rank of the adapters in the smaller model.")
@click.option("--out", required=True, metavar="DIR", help="Folder of the smaller model.")
def shrink(model: str, rank: int, out: str) -> None:
    """Store a model of adapters with adapters of a lower rank: a smaller file, and nearly the same model.

    Its knowledge bases stay the same. Calibrate it again: small changes of scores move the cut-off.

    \b
    Example:
      blink shrink experiments/mine/best --rank 32 --out experiments/mine/small
    """
    from blink.model.biencoder import shrink_model

    shrink_model(model, out, rank)
