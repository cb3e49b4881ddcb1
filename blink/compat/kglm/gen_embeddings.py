"""``python -m blink.kglm.gen_embeddings``: ``blink kglm embed`` and ``reduce`` with the names of the original's commands."""

from __future__ import annotations

import click

from blink.apps.common import guarded
from blink.apps.kglm.embed import HELP, entities, relation_types
from blink.apps.kglm.reduce import reduce
from blink.apps.lazy import HelpfulGroup


@click.group("gen_embeddings", cls=HelpfulGroup, context_settings=HELP)
def gen_embeddings() -> None:
    """Initial embeddings from pretrained language models.

    \b
    Examples:
      python -m blink.kglm.gen_embeddings entities -e entities.tsv -m MODEL -o entities_embeddings.tsv
      python -m blink.kglm.gen_embeddings relation-types -r relation_types.tsv -m MODEL -o relation_types_embeddings.tsv
      python -m blink.kglm.gen_embeddings reduce-dimensions -e entities_embeddings.tsv -m pca -d 400 -o reduced.tsv
    """


gen_embeddings.add_command(entities)
gen_embeddings.add_command(relation_types)
gen_embeddings.add_command(reduce, "reduce-dimensions")


def main(arguments: list[str] | None = None) -> int:
    """Run ``python -m blink.kglm.gen_embeddings``; returns its exit status."""
    name = "python -m blink.kglm.gen_embeddings"
    return guarded(lambda: gen_embeddings.main(arguments, prog_name=name, standalone_mode=False), "gen_embeddings")
