"""``blink kglm prior``: the graph data of a linker, in one file."""

from __future__ import annotations

import click


@click.command()
@click.option(
    "--graph",
    "graphs",
    multiple=True,
    required=True,
    metavar="PATH",
    help="Folder or file of triples, as for `blink kglm train`; may be repeated. Training triples alone count.",
)
@click.option(
    "--vectors",
    metavar="DIR",
    help="Vectors of the graph's entities, of `blink kglm export` or `blink kglm embed`; or signature, which is made from the "
    "relations of an entity and needs no training.",
)
@click.option(
    "--data", default="", metavar="DIR", help="Folder of graphs that are not in the working folder.  [default: $BLINK_DATA]"
)
@click.option("--separator", default="auto", metavar="NAME", help="Of the fields of triples, as data.separator of a run.")
@click.option("--first-line", default="auto", metavar="NAME", help="auto, header or triple, as data.first_line of a run.")
@click.option("--out", required=True, metavar="FILE", help="The prior to write.")
def prior(graphs: tuple[str, ...], vectors: str | None, data: str, out: str, separator: str, first_line: str) -> None:
    """Write the graph data that a linker needs into one file: degrees, edges, vectors, hashes.

    The linker joins it to a knowledge base by the ids of entities; neither has to have all entities of the other. The weight
    of the prior against a model's scores is fitted by `blink kglm tune-prior`.

    \b
    Example:
      blink kglm prior --graph kg/codex-m --graph kg/fb15k-237 --vectors vectors --out prior.safetensors
      blink kglm tune-prior prior.safetensors --model models/mine --kb kb --train train.jsonl --on kb dev.jsonl
      blink link "Who is the president of Georgia?" --model models/mine --kb kb --prior prior.safetensors
    """
    from pathlib import Path

    from blink.apps.common import bar, say
    from blink.data.prior_file import Prior, write_prior
    from blink.kglm.prior_table import make_table, read_train_graph

    graph = read_train_graph(graphs, data, bar, separator=separator, first_line=first_line)
    for note in graph.notes:
        say(note)
    with bar("comparing and counting", None, "entity"):
        table = make_table(graph, vectors)
    write_prior(out, Prior(table))
    width = (
        "no vectors" if table.vectors is None else f"{int(table.vectors.any(1).sum()):,} vectors of {table.vectors.shape[1]}"
    )
    megabytes = Path(out).stat().st_size / 1e6
    say(f"{out}: {len(table):,} entities, {len(table.edges):,} pairs of neighbours, {width}; {megabytes:.1f} MB")
    say(f"next: blink kglm tune-prior {out} --model MODEL --on KB DEV.jsonl")
