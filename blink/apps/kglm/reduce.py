"""``blink kglm reduce``."""

from __future__ import annotations

from pathlib import Path

import click

from blink.apps.common import say


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "-e", "--embedding-file", "source", required=True, metavar="FILE", help="A TSV of vectors, or a folder OUT.vectors/."
)
@click.option("-o", "--output", required=True, metavar="OUT.tsv", help="The TSV; vectors as .npy go into OUT.vectors/.")
@click.option("-d", "--dimensions", type=click.IntRange(1), default=2, show_default=True, help="Dimensions of the result.")
@click.option(
    "-m", "--method", type=click.Choice(["pca", "tsne", "umap"]),
    help="pca for any width; tsne and umap for pictures of 2 or 3 dimensions.  [default: tsne for 2, else pca]",
)  # fmt: skip
@click.option("--whiten", is_flag=True, help="pca: give every component the same variance.")
@click.option(
    "--normalize", is_flag=True,
    help="pca: bring vectors to length 1 first, so that it does not count how long a text was.",
)  # fmt: skip
@click.option(
    "--fitted", metavar="DIR", help="pca: reduce as the vectors in DIR were, by its pca.safetensors; its width counts."
)
@click.option("-p", "--perplexity", type=click.IntRange(1), default=30, show_default=True, help="tsne only.")
@click.option("-l", "--learning-rate", type=click.IntRange(1), default=200, show_default=True, help="tsne only.")
@click.option("-i", "--n-iter", "iterations", type=click.IntRange(250), default=1000, show_default=True, help="tsne only.")
@click.option("--seed", default=0, show_default=True, help="tsne and umap.")
@click.option(
    "--kind", type=click.Choice(["entity", "relation"]), default="entity", show_default=True, help="Which of a folder's."
)
@click.option("--tsv/--no-tsv", default=True, show_default=True, help="Whether the TSV is written.")
def reduce(
    source: str, output: str, dimensions: int, method: str | None, whiten: bool, normalize: bool, fitted: str | None, tsv: bool,
    kind: str,
    perplexity: int, learning_rate: int, iterations: int, seed: int,
) -> None:  # fmt: skip
    """Reduce the dimension of vectors.

    Principal components are of centred vectors, largest first; they are stored with the result as pca.safetensors, so that
    vectors of further rows can be reduced alike (--fitted).

    \b
    Examples:
      blink kglm reduce -e large.tsv -m pca -d 400 -o large-400.tsv
      blink kglm reduce -e new.tsv --fitted large-400.vectors -o new-400.tsv
      blink kglm reduce -e large.tsv -o places.tsv
    """
    from blink.errors import SettingsError
    from blink.kglm.text_init.pipeline import reduce_vectors
    from blink.kglm.text_init.reduce import TsneSettings
    from blink.kglm.text_init.vectors import read_space

    for_pca = fitted is not None or whiten or normalize
    used = method or ("tsne" if dimensions == 2 and not for_pca else "pca")
    if used != "pca" and for_pca:
        raise SettingsError(f"--fitted, --whiten and --normalize are for -m pca, the method is {used}; leave them out")
    space = read_space(source, "relation" if kind == "relation" else "entity")
    settings = TsneSettings(perplexity, learning_rate, iterations, seed)
    fitted_folder = None if fitted is None else Path(fitted)
    reduced = reduce_vectors(
        space,
        output,
        width=dimensions,
        method=used,
        whiten=whiten,
        normalize=normalize,
        fitted=fitted_folder,
        settings=settings,
        tsv=tsv,
    )
    share = "" if reduced.explained is None else f", which keep {reduced.explained:.1%} of the variance"
    say(f"{reduced.folder}: {len(space.ids):,} vectors of {reduced.after} numbers instead of {reduced.before} ({used}){share}")
