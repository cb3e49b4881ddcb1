"""``blink kglm prior`` and ``blink kglm weigh``."""

from __future__ import annotations

from typing import Any

import click

from blink.apps.options import labelled_sets, settings_options, take_settings
from blink.data.prior_file import RELATEDNESS
from blink.training.settings import WeighSettings

TERMS = ("popularity", "vector", "coherence")


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
    "--data", default="", metavar="DIR", help="Where graphs are looked for.  [default: $BLINK_DATA, or ../shared/data]"
)
@click.option("--out", required=True, metavar="FILE", help="The prior to write.")
def prior(graphs: tuple[str, ...], vectors: str | None, data: str, out: str) -> None:
    """Write what a linker needs of a graph into one file: degrees, edges, vectors, hashes.

    The linker joins it to a knowledge base by the ids of entities; neither has to have all entities of the other. How much it
    is to count beside a model's scores, `blink kglm weigh` finds out.

    \b
    Example:
      blink kglm prior --graph kg/codex-m --graph kg/fb15k-237 --vectors vectors --out prior.safetensors
      blink kglm weigh prior.safetensors --model models/mine --kb kb --train train.jsonl --on kb dev.jsonl
      blink link "Who is the president of Georgia?" --model models/mine --kb kb --prior prior.safetensors
    """
    from pathlib import Path

    from blink.apps.common import say
    from blink.data.prior_file import Prior, write_prior
    from blink.kglm.prior import make_table, read_train_graph

    graph = read_train_graph(graphs, data)
    for note in graph.notes:
        say(note)
    table = make_table(graph, vectors)
    write_prior(out, Prior(table))
    width = (
        "no vectors" if table.vectors is None else f"{int(table.vectors.any(1).sum()):,} vectors of {table.vectors.shape[1]}"
    )
    megabytes = Path(out).stat().st_size / 1e6
    say(f"{out}: {len(table):,} entities, {len(table.edges):,} pairs of neighbours, {width}; {megabytes:.1f} MB")
    say(f"next: blink kglm weigh {out} --model MODEL --on KB DEV.jsonl")


@click.command()
@click.argument("file", metavar="FILE")
@click.option("--model", metavar="DIR", help="Model whose scores the prior is added to.  [default: the starter]")
@click.option(
    "--rank/--no-rank", default=True, show_default=True, help="Weigh it beside the ranker's scores, or beside inner products."
)
@labelled_sets("decides how much each term counts")
@click.option(
    "--train",
    "train_files",
    multiple=True,
    metavar="FILE",
    help="Labelled mention file, to learn the term vector; may be repeated.",
)
@click.option("--kb", metavar="DIR", help="Knowledge base of --train.  [default: that of the first --on]")
@click.option(
    "--fold",
    "folds",
    multiple=True,
    metavar="RUN",
    help="Run folder of `blink train --leave-out`: its model reads the part of --train that it was not trained on.",
)
@click.option("--terms", metavar="LIST", help=f"What may count, of {','.join(TERMS)}.  [default: all that can be weighed]")
@click.option(
    "--relatedness",
    default="neighbours",
    show_default=True,
    metavar="LIST",
    help=f"Kinds of relatedness that coherence is tried with, of {','.join(RELATEDNESS)}.",
)
@click.option("--json", "json_out", metavar="OUT", help="Write the figures as JSON; - is standard output.")
@settings_options(WeighSettings)
def weigh(**options: Any) -> None:
    """Find how much a prior counts beside a model's scores, and store it in the prior's file.

    Scale, shift and the weights of popularity and vector are those under which the development texts are likeliest, none
    below 0; then the weight of coherence, then the cut-off of the best weak F1. The vectors' agreement with mentions is learned
    from --train, which the reading model must not have been trained on (--fold). Weights are kept by the scores they are for:
    weigh it again for another model, or with --no-rank, and both stay.

    \b
    Example:
      blink kglm weigh prior.safetensors --model models/mine --on kb dev.jsonl --train train.jsonl --fold runs/a --fold runs/b
      blink eval dev.jsonl --model models/mine --kb kb --prior prior.safetensors
    """
    from blink.apps.kglm.weighing import WeighRequest, weigh_prior

    settings = take_settings(WeighSettings, options)
    weigh_prior(settings, WeighRequest(**options))
