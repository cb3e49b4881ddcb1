"""``blink kglm generate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from blink.kglm.lm.generation import Sampling
    from blink.kglm.lm.saved import SavedModel


@click.command()
@click.argument("folders", nargs=-1, required=True, metavar="DIR...")
@click.option("--prompt", "prompts", multiple=True, default=("",), metavar="TEXT", help="Start of the line; may be repeated.")
@click.option("--words", type=click.IntRange(1), default=20, show_default=True, help="Maximum number of new words.")
@click.option("--samples", type=click.IntRange(0), default=0, show_default=True, help="Sampled lines besides the greedy one.")
@click.option("--temperature", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True, help="Of samples.")
@click.option("--top-k", type=click.IntRange(0), default=0, show_default=True, help="Sample from the likeliest K; 0: all.")
@click.option(
    "--top-p",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="Sample from the likeliest words that together have this probability.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the samples.")
@click.option("--unknown/--no-unknown", default=True, show_default=True, help="Whether the word unk may be generated.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object per generated line.")
def generate(
    folders: tuple[str, ...], prompts: tuple[str, ...], samples: int, seed: int, as_json: bool, **options: Any
) -> None:
    """Continue a prompt with the best states of one or more runs: the likeliest words, and samples.

    A DIR is the folder of a run of kind lm or joint, such as a joint one and its baseline.

    \b
    Example:
      blink kglm generate experiments/joint experiments/baseline --prompt "issa serge coelo born 1967"
      blink kglm generate experiments/joint --prompt "marie curie" --samples 3 --temperature 0.8 --top-p 0.9 --seed 7
    """
    from blink.kglm.lm.generation import Sampling
    from blink.kglm.lm.saved import load_model

    models = [load_model(folder) for folder in folders]
    _tell_unknown(dict(zip(folders, models, strict=True)), prompts)
    temperature = options.pop("temperature")
    hows = [("greedy", Sampling(temperature=0, **options))]
    hows += [
        (f"sample {n + 1} of {samples}", Sampling(temperature=temperature, seed=seed + n, **options)) for n in range(samples)
    ]
    for prompt in prompts:
        for title, how in hows:
            _show(prompt, title, dict(zip(folders, models, strict=True)), how, as_json)


def _show(prompt: str, title: str, models: dict[str, SavedModel], how: Sampling, as_json: bool) -> None:
    import json
    import shutil

    from blink.apps.common import printable
    from blink.kglm.lm.generation import format_columns
    from blink.kglm.lm.generation import generate as go_on

    texts = {name: " ".join(go_on(saved.model, saved.vocabulary, prompt, how)) for name, saved in models.items()}
    if as_json:
        for name, text in texts.items():
            click.echo(json.dumps({"run": name, "prompt": prompt, "how": title, "text": text}, ensure_ascii=False))
        return
    click.echo(printable(f"{prompt} ...  ({title})" if prompt else f"({title})"))
    columns = [f"{prompt} {text}".strip() for text in texts.values()]
    width = shutil.get_terminal_size((100, 24)).columns
    click.echo("\n".join(printable(line) for line in format_columns(list(texts), columns, width)) + "\n")


def _tell_unknown(models: dict[str, SavedModel], prompts: tuple[str, ...]) -> None:
    from blink.apps.common import say
    from blink.kglm.lm.vocabulary import UNK
    from blink.kglm.lm.words import text_words

    for name, saved in models.items():
        unknown = sorted({word for prompt in prompts for word in text_words(prompt) if saved.vocabulary.id(word) == UNK})
        if unknown:
            say(f"{name} has no {', '.join(unknown)} in its vocabulary; read as unk")
