"""``blink kglm predict``."""

from __future__ import annotations

import json

import click


@click.command()
@click.argument("folder", metavar="DIR")
@click.option("--head", metavar="NAME", help="Head of the triple: an id, or a name of --names.")
@click.option("--relation", metavar="NAME", help="Relation of the triple.")
@click.option("--tail", metavar="NAME", help="Tail of the triple. Give two of the three; the third is predicted.")
@click.option("--file", "file", metavar="FILE", help="Many questions: head<TAB>relation<TAB>tail lines, ? for what is asked.")
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="Number of answers.")
@click.option("--all", "known", is_flag=True, help="Also triples that the graph has, marked; otherwise new ones alone.")
@click.option("--names", multiple=True, metavar="FILE", help="Names: id<TAB>name, .json, or entity.jsonl; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object per question.")
def predict(
    folder: str,
    head: str | None,
    relation: str | None,
    tail: str | None,
    file: str | None,
    top: int,
    known: bool,
    names: tuple[str, ...],
    as_json: bool,
) -> None:
    """Predict tails, heads or relations with the best state of a run, the most plausible first.

    DIR is a run of kind graph, or glove with a graph; any interaction can be asked. Scores compare answers of one question.

    \b
    Example:
      blink kglm predict experiments/complex --head Q25475 --relation P17
      blink kglm predict experiments/complex --relation country --tail Georgia --names entity.jsonl --all
      blink kglm predict experiments/complex --file questions.tsv --json
    """
    from blink.apps.common import printable
    from blink.apps.kglm.training import shown_progress
    from blink.errors import SettingsError
    from blink.kglm.prediction import Predictor, Question, read_questions

    if file is not None and (head or relation or tail):
        raise SettingsError("--file has whole questions; leave --head, --relation and --tail out, or --file")
    questions = [Question(head or None, relation or None, tail or None)] if file is None else read_questions(file)
    with shown_progress("predicting", "question") as progress:
        predictor = Predictor.open(folder, names, progress)
    for question, answers in zip(questions, predictor.answers(questions, top, known=known), strict=True):
        if as_json:
            row = {**vars(question), "answers": [answer.to_json() for answer in answers]}
            click.echo(json.dumps(row, ensure_ascii=False))
        else:
            click.echo("\n".join(map(printable, predictor.lines(question, answers))))
