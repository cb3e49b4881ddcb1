"""``blink kglm plot``."""

from __future__ import annotations

from pathlib import Path

import click

from blink.apps.common import say


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("vectors", metavar="VECTORS")
@click.option("-o", "--out", required=True, metavar="NAME", help="NAME.png and NAME.html are written.")
@click.option(
    "-t",
    "--types",
    metavar="FILE",
    help="Names and types: entities.tsv, a catalogue (.jsonl), or id<TAB>type[<TAB>name] a line.",
)
@click.option(
    "-m",
    "--method",
    type=click.Choice(["tsne", "umap", "pca"]),
    default="tsne",
    show_default=True,
    help="How the dimensions are reduced to two.",
)
@click.option(
    "--by", "colour", type=click.Choice(["type", "resource"]), default="type", show_default=True, help="What the colours show."
)
@click.option("--most", type=click.IntRange(4), default=5000, show_default=True, help="Maximum number of points, sampled.")
@click.option("-p", "--perplexity", type=click.IntRange(1), default=30, show_default=True, help="tsne only.")
@click.option("--seed", default=0, show_default=True, help="Of the points drawn and of the layout.")
@click.option("--title", help="Heading.  [default: made of the file's name]")
@click.option(
    "--kind", type=click.Choice(["entity", "relation"]), default="entity", show_default=True, help="Which of a folder's."
)
def plot(
    vectors: str, out: str, types: str | None, method: str, colour: str, most: int, perplexity: int, seed: int,
    title: str | None, kind: str,
) -> None:  # fmt: skip
    """Draw vectors by type: a PNG, and a page with names under the pointer that needs no network.

    VECTORS is a TSV of vectors, or a folder of them: made by embed, reduce or export. Entities are coloured by their type,
    relation types by the pair of types that they join, or with --by resource by where they come from.

    \b
    Examples:
      blink kglm plot entities_embeddings.tsv -o space
      blink kglm plot runs/complex-export --types types.tsv --method umap -o space
      blink kglm plot relation_types_embeddings.tsv --by resource -o relations
    """
    from blink.kglm.text_init.plot import Points, colour_groups, draw_png, sample, with_types, write_html
    from blink.kglm.text_init.reduce import TsneSettings, project
    from blink.kglm.text_init.vectors import read_space

    space = read_space(vectors, "relation" if kind == "relation" else "entity")
    if types is not None:
        space = with_types(space, types)
    subset = sample(space, most, seed)
    colours = colour_groups(subset, colour)
    projected = subset.vectors if subset.width == 2 else project(subset.vectors, method, 2, TsneSettings(perplexity, seed=seed))
    points = Points.of(projected, subset.names, colours)
    count = f"{len(subset.ids):,} of {len(space.ids):,}" if len(subset.ids) < len(space.ids) else f"{len(subset.ids):,}"
    heading = title or f"{Path(vectors).stem} ({count} vectors, {'as they are' if subset.width == 2 else method})"
    base = Path(out).with_suffix("") if Path(out).suffix in (".png", ".html") else Path(out)
    draw_png(points, f"{base}.png", heading)
    write_html(points, f"{base}.html", heading)
    say(f"{base}.png and {base}.html: {count} points of {len(points.colours)} types")
