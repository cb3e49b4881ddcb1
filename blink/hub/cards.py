"""Cards of what is published: a README whose head has the metadata that the hub reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from blink.cells import markdown_table, markdown_text
from blink.errors import SettingsError
from blink.hub.names import PREFIX, hub_library

LIBRARY, TASK, TAGS = "blink", "token-classification", ("entity-linking", "blink")
_FIGURE = ("name", "value", "data", "precision", "hardware")


@dataclass(frozen=True)
class Figure:
    """A figure of a card. Scores depend on precision and hardware, so each figure names them.

    Attributes:
        name: of the metric, such as ``weak F1``.
        value: its value.
        data: what it was measured on, such as ``WebQSP dev``.
        precision: of the encoder, such as ``fp32`` or ``bf16``.
        hardware: processor or GPU.
    """

    name: str
    value: float
    data: str
    precision: str
    hardware: str

    @classmethod
    def of(cls, given: Figure | Mapping[str, Any]) -> Figure:
        """A figure of a mapping with its fields.

        Raises:
            SettingsError: one is missing, or there are others.
        """
        if isinstance(given, Figure):
            return given
        wrong = sorted(set(_FIGURE) ^ set(given))
        if wrong:
            raise SettingsError(f"a figure of a card needs {', '.join(_FIGURE)}, and nothing else; check {wrong[0]!r}")
        return cls(str(given["name"]), float(given["value"]), *(str(given[key]) for key in _FIGURE[2:]))


@dataclass(frozen=True)
class CardOptions:
    """What the caller says for a card.

    Attributes:
        license: identifier, such as ``mit`` or ``cc-by-4.0``; without one the card has none.
        language: codes of languages, such as ``en``.
        tags: more than `TAGS`.
        figures: measured.
    """

    license: str | None = None
    language: Sequence[str] = ()
    tags: Sequence[str] = ()
    figures: Sequence[Figure] = ()


def card(kind: str, repo: str, facts: Mapping[str, Any], options: CardOptions, readme: str | None = None) -> str:
    """The text of a card.

    Args:
        kind: ``model``, ``knowledge base`` or ``linker``.
        repo: ``OWNER/NAME``.
        facts: a table of settings and sizes.
        options: what the caller says.
        readme: text that the folder has; it stays, and what metadata it lacks is added.
    """
    library = hub_library("cards")
    before = None if readme is None else library.ModelCard(readme, ignore_metadata_errors=True)
    results = [
        library.EvalResult(
            task_type=TASK, task_name="entity linking", dataset_type="other", dataset_name=figure.data, metric_type="f1",
            metric_name=f"{figure.name} ({figure.precision}, {figure.hardware})", metric_value=figure.value,
        )
        for figure in options.figures
    ]  # fmt: skip
    values: dict[str, Any] = {"library_name": LIBRARY, "pipeline_tag": TASK, "license": options.license}
    values |= {"language": list(options.language) or None, "tags": [*TAGS, kind.replace(" ", "-"), *options.tags]}
    stated = {} if before is None else {key: value for key, value in before.data.to_dict().items() if value is not None}
    stated |= {"eval_results": results, "model_name": repo.rpartition("/")[2]} if results else {}
    data = library.ModelCardData(**values | stated)
    body = _body(kind, repo, facts) if before is None else before.text.strip("\n")
    return f"---\n{data.to_yaml().strip()}\n---\n\n{body}\n{_figures(options.figures)}"


_USE = {
    "model": 'linker = blink.load("{name}", "my-kb")  # my-kb: blink kb build ENTITIES --model {name} --out my-kb',
    "knowledge base": 'linker = blink.load(MODEL, "{name}")  # MODEL: the one that made its vectors; none for the starter',
    "linker": 'linker = blink.load("{name}")',
}


def _body(kind: str, repo: str, facts: Mapping[str, Any]) -> str:
    use = _USE[kind].format(name=PREFIX + repo)
    table = "\n".join(f"| {markdown_text(key)} | {markdown_text(value)} |" for key, value in facts.items())
    what = f"A {kind} of BLINK, an entity linker: it finds mentions in text and links them to a knowledge base."
    code = f"```python\nimport blink\n\n{use}\nprint(linker('...').entities)\n```"
    return f"# {repo.rpartition('/')[2]}\n\n{what}\n\n{code}\n\n| | |\n| --- | --- |\n{table}\n"


def _figures(figures: Sequence[Figure]) -> str:
    if not figures:
        return ""
    cells = ((f.name, f"{f.value:.3f}", f.data, f.precision, f.hardware) for f in figures)
    table = markdown_table(("metric", "value", *_FIGURE[2:]), ([markdown_text(cell) for cell in row] for row in cells))
    return "\n" + "".join(f"{line}\n" for line in table)
