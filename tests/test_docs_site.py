"""Links of README and docs lead to files and headings that there are, in the repository and on the site."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from blink.errors import DataError
from scripts.docs_site import (
    linked_files,
    math_fence,
    on_post_build,
    relative_links,
    repository_path,
    site_path,
    with_site_links,
)

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    str(page.relative_to(ROOT))
    for pattern in (
        "*.md",
        "docs/**/*.md",
        "models/*/README.md",
        "examples/**/*.md",
        "blink/**/README.md",
        "benchmarks/results/*.md",
    )
    for page in ROOT.glob(pattern)
)
pytestmark = pytest.mark.quick


def anchors(page: str) -> set[str]:
    """Anchors of headings, as code hosts make them."""
    text = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_lead_somewhere(page: str) -> None:
    dead = []
    for target, anchor in relative_links((ROOT / page).read_text(encoding="utf-8")):
        path = repository_path(page, target)
        if not (ROOT / path).exists() or (anchor and anchor[1:] not in anchors(path)):
            dead.append(target + anchor)
    for target in re.findall(r'<img src="(?!https?:)([^"]+)"', (ROOT / page).read_text(encoding="utf-8")):
        dead += [] if (ROOT / repository_path(page, target)).exists() else [target]
    for anchor in re.findall(r"\]\(#([^)]+)\)", (ROOT / page).read_text(encoding="utf-8")):
        dead += [] if anchor in anchors(page) else [f"#{anchor}"]
    assert dead == []


def test_every_page_of_docs_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:\n")[1]
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert set(re.findall(r"[\w/-]+\.md", navigation)) == pages


def test_links_out_of_docs_lead_to_copies_on_the_site() -> None:
    text = (
        "See [a](../benchmarks/results/nil.md#x), [b](linking.md), ![c](shell.svg), [d](../README.md) and [e](https://x.org/y)."
    )
    assert with_site_links(text, "docs/evaluation.md") == (
        "See [a](benchmarks/results/nil.md#x), [b](linking.md), ![c](shell.svg), [d](index.md) and [e](https://x.org/y)."
    )
    assert with_site_links("[a](../../docs/scale.md)", "benchmarks/results/scale.md") == "[a](../../scale.md)"


def test_code_is_not_changed() -> None:
    text = "```text\n[a](../benchmarks/x.md)\n```\n[b](../CONTRIBUTING.md)\n"
    assert with_site_links(text, "docs/x.md") == "```text\n[a](../benchmarks/x.md)\n```\n[b](CONTRIBUTING.md)\n"
    assert list(relative_links(text)) == [("../CONTRIBUTING.md", "")]


def test_folders_are_their_readme_or_no_link() -> None:
    assert site_path("models/starter") == "models/starter/README.md"
    assert with_site_links("[the loop](../blink/runs)", "docs/training.md") == "the loop"


def test_linked_files_are_collected_through_other_files() -> None:
    files = linked_files(["docs/training.md"])
    assert "models/starter/README.md" in files
    assert "models/starter-kb/README.md" in files  # linked by the one before
    assert not [file for file in files if file.startswith("docs/")]


def test_formulas_are_drawn_without_a_script() -> None:
    pytest.importorskip("latex2mathml")
    drawn = math_fence(r"\frac{a}{b}")
    assert "<mfrac>" in drawn
    assert "script" not in drawn


@pytest.mark.parametrize(
    "loaded",
    [
        '<script src="https://example.org/a.js"></script>',
        '<img alt="a" src="//example.org/a.png">',
        '<link rel="stylesheet" href="https://example.org/a.css">',
        '<link rel="preconnect" href="https://example.org">',
    ],
)
def test_a_page_that_loads_from_elsewhere_is_refused(loaded: str, tmp_path: Path) -> None:
    site: Any = SimpleNamespace(site_dir=str(tmp_path))
    page = tmp_path / "index.html"
    page.write_text('<a href="https://example.org">a</a><script src="assets/a.js"></script>')
    on_post_build(site)
    page.write_text(loaded)
    with pytest.raises(DataError, match=r"index\.html loads from another host"):
        on_post_build(site)
