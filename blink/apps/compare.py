"""``blink compare``: two systems on the same questions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blink.apps.model_options import cluster_option
from blink.apps.outputs import Outputs
from blink.errors import SettingsError

if TYPE_CHECKING:
    from blink.evaluation.comparison import TextPair
    from blink.evaluation.matching import EntitySpan
    from blink.kb.catalogue import Catalogue


@click.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--gold", metavar="FILE", help="Mention file with the gold entities, instead of those of the rows.")
@click.option("--kb", metavar="DIR", help="Knowledge base that was evaluated: names entities by title, and binds --gold to it.")
@click.option("--show", type=click.IntRange(0), default=0, show_default=True, help="Number of questions won and lost to print.")
@click.option("--json", "json_out", metavar="OUT", help="Write the figures as JSON; - is standard output.")
@cluster_option
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the resampling.")
def compare(a: str, b: str, **options: Any) -> None:
    """Compare two systems on the same questions: is B better than A, and where?

    A and B are files written by `blink eval --rows`. Printed are the differences of F1 with 95 % intervals and p values
    (paired bootstrap, 10,000 resamples), the questions that B won and lost, the errors of either by kind, and what each
    mention was in A (down) and became in B (across).

    \b
    Example:
      blink eval dev.jsonl --model experiments/old/best --kb my-kb --rows old.jsonl
      blink eval dev.jsonl --model experiments/new/best --kb my-kb --rows new.jsonl
      blink compare old.jsonl new.jsonl --show 5
    """
    compare_files(a, b, **options)


def compare_files(
    a: str, b: str, *, gold: str | None, kb: str | None, show: int, json_out: str | None, cluster: str, seed: int
) -> None:
    """Compare two files of rows and report."""
    from blink.evaluation.comparison import compare, examples, execution_in, format_comparison, paired, read_records, with_gold
    from blink.model.execution import UNKNOWN

    outputs = Outputs(json_out)
    outputs.check()
    catalogue = _catalogue(kb)
    sides = [read_records(path) for path in (a, b)]
    if gold is not None:
        samples = _gold(gold, catalogue)
        sides = [with_gold(side, samples) for side in sides]
    pairs = paired(*sides)
    comparison = compare(pairs, seed=seed, by_group=cluster == "paraphrase")
    executions = [execution_in(path) for path in (a, b)]
    named = {"a": a, "b": b, "execution": dict(zip("ab", executions, strict=True)), "cluster": cluster, "seed": seed}
    figures = {**named, **comparison.to_json()}
    sides_of = "\n".join(f"{name} = {path}: {how or UNKNOWN}" for name, path, how in zip("AB", (a, b), executions, strict=True))
    name = _titles(catalogue)
    example_lines = [
        "\n".join(_example(pair, "won" if won else "lost", name))
        for won in (True, False)
        for pair in examples(pairs, show, won=won)
    ]
    outputs.write(figures, (), "\n\n".join([f"{sides_of}\n{format_comparison(comparison)}", *example_lines]))


def _catalogue(kb: str | None) -> Catalogue | None:
    from blink.kb.catalogue import Catalogue
    from blink.kb.manifest import CATALOGUE_FILE, read_manifest

    if kb is None:
        return None
    manifest = read_manifest(Path(kb))
    return Catalogue.open(Path(kb) / manifest.folder / CATALOGUE_FILE, skip_bad=manifest.skipped > 0)


def _gold(file: str, catalogue: Catalogue | None) -> list[Any]:
    """The samples of a mention file with rows of the catalogue, or the rows that the file itself has."""
    from blink.data.mention_files import bind, read_samples
    from blink.data.records import NOT_IN_CATALOGUE

    samples = list(read_samples(file))
    if catalogue is not None:
        return list(bind(samples, catalogue))
    mentions = [m for s in samples for m in s.mentions or ()]
    if mentions and all(m.row == NOT_IN_CATALOGUE for m in mentions):
        raise SettingsError(f"{file} names entities by Wikidata id only; give the knowledge base that was evaluated: --kb DIR")
    return samples


def _titles(catalogue: Catalogue | None) -> Callable[[str | None], str]:
    def name(entity: str | None) -> str:
        if not entity:
            return "not in the catalogue"
        if catalogue is None or not entity.isdigit() or int(entity) >= len(catalogue):
            return f"row {entity}"
        row = catalogue[int(entity)]
        return f"{row.title} ({row.kb_id or 'row ' + entity})"

    return name


def _example(pair: TextPair, verdict: str, name: Callable[[str | None], str]) -> Iterator[str]:
    yield f"{verdict}: {pair.a.text}  [{pair.a.id}]"
    yield from (f"  gold  {_mention(pair.a.text, t, name)}" for t in pair.a.gold)
    for side, evaluated, assessment in (("A", pair.a, pair.assessment_a), ("B", pair.b, pair.assessment_b)):
        for p, label in zip(evaluated.predicted, assessment.predicted_labels, strict=True):
            yield f"  {side}     {_mention(evaluated.text, p, name)}  {p.score:.3f}  {label}"
        if not evaluated.predicted:
            yield f"  {side}     no links"


def _mention(text: str, span: EntitySpan, name: Callable[[str | None], str]) -> str:
    mention = text[span.start : span.end] if span.has_span else "?"
    return f"{mention} -> {name(span.id)}"
