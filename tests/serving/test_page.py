"""The web page in a real headless Chromium, over a real server on the starter."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright", reason="needs Playwright's Python package: pip install playwright")

from browsing import CHROMIUM, Server, Visit, launched, running_server, visit
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]
ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = os.environ.get("BLINK_SCREENSHOTS")
"""Set to write the screenshots of the docs again."""
TEXT = "Michael Jordan flew to Jordan with Serena Williams. 😀 Freddie Mercury sang with Queen in Paris, and Jordan wept."
HOSTILE = "<img src=x onerror=\"window.hacked=1;alert('x')\"><script>window.hacked=1</script>"


@pytest.fixture(scope="module")
def server(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("served"), starter) as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = launched(playwright)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Browser, server: Server) -> Iterator[Callable[..., Visit]]:
    """Makes a visit in a context with options; afterwards nothing unexpected may have happened on its page."""
    visits: list[Visit] = []

    def open_context(**options: Any) -> Visit:
        options = {"viewport": {"width": 1280, "height": 900}} | options
        context = browser.new_context(permissions=["clipboard-read", "clipboard-write"], **options)
        context.set_default_timeout(20_000)
        visits.append(visit(context, server))
        return visits[-1]

    yield open_context
    complaints = [complaint for each in visits for complaint in each.unexpected()]
    for each in visits:
        each.page.context.close()
    assert complaints == []


def give_token(page: Page) -> None:
    from browsing import TOKEN

    page.click("#open-token")
    page.fill("#token", TOKEN)
    page.click("#token-form [type=submit]")


# --- linking ---------------------------------------------------------------------------------------------------------


def test_the_first_sight_has_links_and_explains_itself(opened: Callable[..., Visit]) -> None:
    visit = opened()
    page = visit.open()
    assert len(visit.links()) > 8
    expect(page.locator("#about")).to_contain_text(" entities")
    expect(page.locator("#legend .kind").first).to_be_visible()
    expect(page.locator("#counts button").first).to_be_visible()
    expect(page.locator("#inspector .candidate").first).to_be_visible()
    titles = {title for _, _, title in visit.links()}
    for example in page.locator(".example").all():
        with page.expect_response("**/page/link"):
            example.click()
        visit.linked()
        assert visit.links(), example.inner_text()
        titles |= {title for _, _, title in visit.links()}
    assert len(titles) > 50


def test_a_typed_text_is_linked_as_by_the_server(opened: Callable[..., Visit], server: Server) -> None:
    visit = opened()
    page = visit.open()
    visit.type(TEXT)
    assert visit.links() == server.links(TEXT)
    assert len(visit.links()) >= 5
    expect(page.locator("#reader")).to_have_text(TEXT)
    page.locator(".name", has_text="Queen").click()
    expect(page.locator("#inspector-heading")).to_have_text("Queen (band)")
    page.click("#clear")
    expect(page.locator("#reader")).to_contain_text("Nothing to link yet")


def test_the_slider_gives_the_links_of_the_server_without_asking_it(opened: Callable[..., Visit], server: Server) -> None:
    visit = opened()
    visit.open(TEXT)
    scores = [m["score"] for m in server.post("link", {"text": TEXT, "explain": True})["results"][0]["explanation"]["mentions"]]
    before = len(visit.requests)
    counts = set()
    near = [score + by for score in scores for by in (-1e-6, 1e-6) if 0.01 < score < 0.98]
    for threshold in (0.01, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.985, *near):
        visit.set_threshold(threshold)
        assert visit.links() == server.links(TEXT, threshold), threshold
        counts.add(len(visit.links()))
    assert len(counts) > 3
    assert len(visit.requests) == before
    visit.page.click("#reset-threshold")
    assert visit.links() == server.links(TEXT)


def test_weaker_mentions_and_a_text_without_links(opened: Callable[..., Visit]) -> None:
    visit = opened()
    page = visit.open(TEXT)
    visit.set_threshold(0.99)
    strict = len(visit.links())
    page.check("#weaker")
    assert page.locator(".name.weak").count() > 0
    page.locator(".name.weak").first.click()
    expect(page.locator("#inspector .status")).to_contain_text("threshold")
    assert len(visit.links()) == strict
    page.uncheck("#weaker")
    visit.type("the weather was nice and we had soup")
    visit.set_threshold(0.99)
    expect(page.locator("#reader .message")).to_be_visible()
    visit.type("We met in Springfield.")
    visit.set_threshold(0.99)
    expect(page.locator("#reader .message")).to_contain_text("The best guess")
    page.locator("#reader .message button").click()
    assert len(visit.links()) >= 1


def test_selected_characters_are_linked(opened: Callable[..., Visit], server: Server) -> None:
    visit = opened()
    page = visit.open(TEXT)
    expect(page.locator("#link-selection")).to_be_disabled()
    page.eval_on_selector("#text", "(field) => { field.focus(); field.setSelectionRange(8, 14); }")  # Jordan
    page.click("#link-selection")
    expect(page.locator(".name.pinned")).to_have_text("Jordan")
    pinned = page.locator(".name.pinned").get_attribute("data-key")
    assert pinned == "8-14"
    assert all(end <= 8 or start >= 14 or (start, end) == (8, 14) for start, end, _ in visit.links())
    page.click("#undo")
    assert visit.links() == server.links(TEXT)
    # In the linked text, behind a character of two units, over the border of a link.
    select = """() => { const names = [...document.querySelectorAll('.name')];
      const node = names.find((n) => n.textContent === 'Freddie Mercury').firstChild;
      const range = document.createRange(); range.setStart(node, 8); range.setEnd(node.parentNode.nextSibling, 6);
      const s = getSelection(); s.removeAllRanges(); s.addRange(range); }"""
    page.evaluate(select)
    page.click("#link-selection")
    expect(page.locator(".name.pinned")).to_have_text("Mercury sang")
    start, end = map(int, page.locator(".name.pinned").get_attribute("data-key").split("-"))  # type: ignore[union-attr]
    assert TEXT[start:end] == "Mercury sang"


# --- documents -------------------------------------------------------------------------------------------------------


def test_files_are_opened_whatever_their_encoding(opened: Callable[..., Visit], tmp_path: Path) -> None:
    visit = opened()
    page = visit.open()
    text = "In Zürich René Descartes met Albert Einstein.\r\nZürich is in Switzerland."
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "cp1252"):
        file = tmp_path / f"{encoding}.txt"
        file.write_bytes(text.encode(encoding))
        with page.expect_response("**/page/link"):
            page.set_input_files("#file", file)
        visit.linked()
        assert page.input_value("#text") == text.replace("\r\n", "\n")
        assert tuple(t for t in ("Zürich", "Albert Einstein") if t in page.inner_text("#reader")) == (
            "Zürich",
            "Albert Einstein",
        )
    for name, content in {"binary.txt": b"\0\1\2" * 100, "empty.txt": b" \n"}.items():
        (tmp_path / name).write_bytes(content)
        page.set_input_files("#file", tmp_path / name)
        expect(page.locator("#toast")).to_contain_text(name)
    assert page.input_value("#text").startswith("In Zürich")


def test_a_long_document_shows_progress_counts_and_a_map(opened: Callable[..., Visit], server: Server) -> None:
    examples = opened().open()
    with examples.expect_response("**/page/link"):
        examples.click("text=Long text")
    paragraphs = examples.input_value("#text")
    # Two sections of at most 32,768 characters; spaces cost the model nothing.
    text = f"\n\n{' ' * 9_000}\n\n".join([paragraphs] * 4)
    visit = opened(reduced_motion="reduce")
    page = visit.open()
    page.fill("#text", text)
    expect(page.locator("#size")).to_contain_text("characters")
    page.click("#link")
    expect(page.locator("#progress")).to_be_visible()
    page.wait_for_selector("#reader .tail", timeout=60_000)  # the first section is shown before the last is linked
    assert len(visit.links()) > 100
    expect(page.locator("#progress-text")).to_contain_text(" of ")
    visit.linked()
    page.wait_for_selector("#progress", state="hidden", timeout=60_000)
    assert visit.links() == server.links(text)
    assert page.locator("#map rect[data-kind]").count() == len(visit.links())
    first = page.locator("#counts button").first
    times = int(first.locator(".times").inner_text().rstrip("×"))
    assert times == sum(title == first.locator(".title").inner_text() for *_, title in visit.links())
    first.click()
    one = page.locator(".name[aria-current]").get_attribute("data-key")
    first.click()
    assert page.locator(".name[aria-current]").get_attribute("data-key") != one
    expect(page.locator(".name[aria-current]")).to_be_in_viewport()


# --- edits -----------------------------------------------------------------------------------------------------------


def test_an_entity_is_added_linked_and_undone(opened: Callable[..., Visit], server: Server) -> None:
    visit = opened()
    text = "The probe landed on Zorblax, and Zorb was cold."
    page = visit.open(text)
    assert not any("Zorb" in title for *_, title in visit.links())
    page.click("#add-entity")
    page.fill("#entity-title", "Zorblax")
    page.fill("#entity-text", "A moon of the planet Kepler-1649c, on which probes land.")
    page.fill("#entity-aliases", "Zorb, Zorblax Minor")
    page.fill("#entity-type", "moon")
    visit.expected.append("401")  # the console says that the token was missing, and then that it was wrong
    page.click("#entity-form [type=submit]")
    for token in ("wrong-token-wrong-token", "0123456789abcdef0123"):
        expect(page.locator("#token-error")).to_contain_text("token")
        page.fill("#token", token)
        page.click("#token-form [type=submit]")
    expect(page.locator("#entity-dialog")).to_be_hidden()
    expect(page.locator(".name", has_text="Zorblax")).to_have_attribute("data-title", "Zorblax")
    expect(page.locator(".name", has_text="Zorb,")).to_have_count(0)
    assert visit.links() == server.links(text)
    assert page.evaluate("sessionStorage.getItem('blink-token')") == "0123456789abcdef0123"
    with page.expect_response("**/page/link"):
        page.click("#undo")
    visit.linked()
    assert not any("Zorb" in title for *_, title in visit.links())
    assert visit.links() == server.links(text)


def test_corrections_are_saved_and_taken_back(opened: Callable[..., Visit], server: Server) -> None:
    visit = opened()
    page = visit.open(TEXT)
    give_token(page)

    def saved() -> dict[str, str | None]:
        return {
            TEXT[s:e]: title for line in server.saved() for (s, e), title in zip(line["mentions"], line["entity"], strict=True)
        }

    page.locator(".name", has_text="Queen").click()
    page.click("#inspector .right")
    expect(page.locator(".name.corrected")).to_have_text("Queen")
    page.locator(".name", has_text="Paris").click()
    page.click("#inspector .wrong")
    page.locator(".choices button", has_text="Texas").click()
    expect(page.locator("#inspector-heading")).to_have_text("Paris, Texas")
    page.locator(".name", has_text="Serena Williams").click()
    page.click("#inspector .wrong")
    page.locator(".choices button", has_text="Nothing").click()
    expect(page.locator(".name.nothing")).to_have_text("Serena Williams")
    page.locator(".name", has_text="Michael Jordan").click()
    page.click("#inspector .wrong")
    page.locator(".choices button", has_text="Another entity").click()
    page.fill("#search", "Michael B. Jordan")
    expect(page.locator("#search-results li").first).to_contain_text("Michael B. Jordan")
    page.press("#search", "Enter")
    expect(page.locator("#inspector-heading")).to_have_text("Michael B. Jordan")
    titles = {"Queen": "Queen (band)", "Paris": "Paris, Texas", "Serena Williams": None, "Michael Jordan": "Michael B. Jordan"}
    assert saved() == titles
    visit.set_threshold(0.99)  # what is corrected stays, whatever its score
    assert page.locator(".name.corrected").count() == 3
    page.click("#undo")
    expect(page.locator(".name.corrected")).to_have_count(2)
    page.locator(".name.nothing").click()
    page.locator("#inspector button", has_text="Take back").click()
    expect(page.locator(".name.nothing")).to_have_count(0)
    assert set(saved()) == {"Queen", "Paris"}


# --- safety ----------------------------------------------------------------------------------------------------------


def test_text_of_entities_and_of_users_is_never_html(opened: Callable[..., Visit], server: Server, tmp_path: Path) -> None:
    fields = {
        "title": f"Vexorama {HOSTILE}",
        "text": f"A comet. {HOSTILE}",
        "aliases": ["Vexorama"],
        "types": [HOSTILE],
        "url": "javascript:alert(1)",
    }
    number = server.post("entities", fields, edits=True)["edit"]
    try:
        visit = opened()
        page = visit.open(f"We saw Vexorama.\n\n{HOSTILE} & <b>Paris</b>")
        page.check("#labels")
        visit.set_threshold(0.01)
        page.locator(".name", has_text="Vexorama").first.click()
        page.locator(".candidate > button").first.click()
        expect(page.locator("#inspector-heading")).to_contain_text("<img src=x")
        page.click("#inspector .wrong")
        assert page.locator("#inspector a[href^='javascript']").count() == 0
        page.locator(".choices button", has_text="Another entity").click()
        page.fill("#search", "Vexorama")
        expect(page.locator("#search-results li").first).to_contain_text("<img src=x")
        page.keyboard.press("Escape")
        assert page.locator("img, script:not([src]), iframe, b:not(.meter b):not(.search-results b)").count() == 0
        with page.expect_download() as download:
            page.click("#save-html")
        exported = opened(java_script_enabled=True)
        exported.expected.append("request to file:")
        download.value.save_as(tmp_path / "linked.html")
        exported.page.goto((tmp_path / "linked.html").as_uri())
        assert exported.page.locator("img, script").count() == 0
        assert "<img src=x" in exported.page.inner_text("main")
        for each in (page, exported.page):
            assert each.evaluate("window.hacked") is None
    finally:
        server.post("entities/undo", {"number": number}, edits=True)


def test_links_leave_the_page_as_json_and_html(opened: Callable[..., Visit], server: Server) -> None:
    visit = opened()
    page = visit.open(TEXT)
    page.click("#copy")
    expect(page.locator("#toast")).to_contain_text("copied")
    copied = json.loads(page.evaluate("navigator.clipboard.readText()"))
    assert copied["text"] == TEXT
    assert [(x["start"], x["end"], x["title"]) for x in copied["links"]] == server.links(TEXT)
    with page.expect_download() as download:
        page.click("#save-html")
    content = Path(download.value.path()).read_text(encoding="utf-8")
    assert download.value.suggested_filename == "linked-text.html"
    assert 'href="https://en.wikipedia.org/wiki/' in content
    assert "<script" not in content


@pytest.mark.parametrize(
    ("status", "message"),
    [(0, "does not answer"), (429, "busy"), (500, "status 500"), (503, "being loaded"), (413, "longer than")],
)
def test_failures_are_said_and_can_be_tried_again(opened: Callable[..., Visit], status: int, message: str) -> None:
    visit = opened()
    page = visit.open(TEXT)
    visit.expected += ["Failed to load resource"]
    fail = (lambda route: route.abort()) if status == 0 else (lambda route: route.fulfill(status=status, body="no JSON"))
    page.route("**/page/link", fail)
    page.fill("#text", "Paris is in France.")
    expect(page.locator("#reader .message")).to_contain_text(message)
    assert visit.severe() == []
    page.unroute("**/page/link")
    if status != 503:  # after which the page tries again by itself
        page.locator("#reader .message button").click()
    expect(page.locator(".name", has_text="France")).to_be_visible()


# --- access ----------------------------------------------------------------------------------------------------------


OUTLINED = """() => { const node = document.activeElement;
  const { outlineStyle, outlineWidth } = getComputedStyle(node.closest('.field') ?? node);
  return outlineStyle !== 'none' && parseFloat(outlineWidth) > 1; }"""


def focused(page: Page) -> str:
    """What has the focus: its id, its text, or its element."""
    return str(
        page.evaluate("(() => { const a = document.activeElement; return a.id || a.textContent.trim() || a.tagName; })()")
    )


def tab_to(page: Page, name: str, key: str = "Tab") -> None:
    """Press Tab until an element with an id or a text has the focus, which must then be visible."""
    for _ in range(120):
        page.keyboard.press(key)
        if focused(page) == name:
            assert page.evaluate(OUTLINED), f"the focus on {name} is not visible"
            return
    raise AssertionError(f"{name} is not reached by {key}")


def test_everything_is_done_by_keyboard(opened: Callable[..., Visit], server: Server) -> None:
    visit = opened()
    page = visit.open()
    keys = page.keyboard
    keys.press("Tab")
    assert focused(page) == "Skip to the linked text"
    keys.press("Enter")
    assert focused(page) == "reader"
    keys.press("ArrowRight")
    assert page.locator(".name[aria-current]").count() == 1
    # A text of one's own.
    tab_to(page, "text", "Shift+Tab")
    keys.press("Control+A")
    keys.type("Michael Jordan flew to Jordan. Quuxia is a band, said Quuxia.")
    with page.expect_response("**/page/link"):
        keys.press("Control+Enter")
    visit.linked()
    # From link to link, to the details and back.
    tab_to(page, "Michael Jordan")
    keys.press("ArrowRight")
    assert focused(page) == "Jordan"
    keys.press("Home")
    assert focused(page) == "Michael Jordan"
    keys.press("End")
    keys.press("Home")
    keys.press("Enter")
    assert focused(page) == "inspector-heading"
    keys.press("Escape")
    assert focused(page) == "Michael Jordan"
    # The threshold.
    tab_to(page, "threshold")
    before = float(page.input_value("#threshold"))
    keys.press("ArrowRight")
    assert float(page.input_value("#threshold")) > before
    keys.press("ArrowLeft")
    # An entity, which asks for the token.
    tab_to(page, "add-entity", "Shift+Tab")
    keys.press("Enter")
    assert focused(page) == "entity-title"
    keys.type("Quuxia")
    keys.press("Tab")
    keys.type("Rock band from Iceland.")
    keys.press("Tab")
    keys.press("Tab")
    keys.type("band")
    visit.expected.append("401")
    keys.press("Enter")
    expect(page.locator("#token-dialog")).to_be_visible()
    keys.type("0123456789abcdef0123")
    with page.expect_response("**/page/link"):
        keys.press("Enter")
    expect(page.locator(".name", has_text="Quuxia").first).to_be_visible()
    visit.linked()
    # A wrong link is put right.
    tab_to(
        page, "reader" if page.locator(".name[tabindex='0']").count() == 0 else page.locator(".name[tabindex='0']").inner_text()
    )
    keys.press("Home")
    keys.press("ArrowRight")
    keys.press("Enter")
    tab_to(page, "Wrong")
    keys.press("Enter")
    tab_to(page, "Another entity")
    keys.press("Enter")
    assert focused(page) == "search"
    keys.press("Control+A")
    keys.type("Jordan River")
    expect(page.locator("#search-results li").first).to_contain_text("Jordan River")
    keys.press("ArrowDown")
    keys.press("ArrowUp")
    keys.press("Enter")
    expect(page.locator("#inspector-heading")).to_have_text("Jordan River")
    keys.press("Escape")
    assert focused(page) == "Jordan"
    # Characters of the text area.
    tab_to(page, "text", "Shift+Tab")
    keys.press("Control+Home")
    for _ in range(7):
        keys.press("Shift+ArrowRight")
    tab_to(page, "link-selection")
    keys.press("Enter")
    expect(page.locator(".name.pinned")).to_have_text("Michael")
    # And everything is taken back.
    for _ in range(3):
        tab_to(page, "undo", "Shift+Tab")
        keys.press("Enter")
        page.wait_for_timeout(50)
        visit.linked()
    expect(page.locator("#undo")).to_be_disabled()
    expect(page.locator(".name.pinned, .name.corrected, .name[data-title=Quuxia]")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_any_state(opened: Callable[..., Visit], scheme: str) -> None:
    visit = opened(color_scheme=scheme, reduced_motion="reduce")
    page = visit.open()
    states: dict[str, list[str]] = {"first sight": visit.severe()}
    page.check("#labels")
    page.check("#weaker")
    visit.set_threshold(0.95)
    page.locator(".name.weak").first.click()
    states["weaker mention"] = visit.severe()
    page.locator(".name:not(.weak)").first.click()
    page.locator(".candidate > button").first.click()
    page.click("#inspector .wrong")
    states["details"] = visit.severe()
    page.locator("#legend .kind").first.click()
    states["one kind"] = visit.severe()
    for opener, dialog in (("#add-entity", "#entity-dialog"), ("#open-token", "#token-dialog")):
        page.click(opener)
        expect(page.locator(dialog)).to_be_visible()
        states[dialog] = visit.severe()
        page.keyboard.press("Escape")
    page.locator(".choices button", has_text="Another entity").click()
    page.fill("#search", "Paris")
    expect(page.locator("#search-results li").first).to_be_visible()
    states["search"] = visit.severe()
    page.keyboard.press("Escape")
    page.click("#clear")
    expect(page.locator("#reader .message")).to_be_visible()
    states["empty"] = visit.severe()
    assert {name: found for name, found in states.items() if found} == {}


def test_dark_and_light_follow_the_system_and_the_switch(opened: Callable[..., Visit]) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    dark, light = opened(color_scheme="dark"), opened(color_scheme="light")
    of_dark, of_light = dark.open().evaluate(background), light.open().evaluate(background)
    assert of_dark != of_light
    light.page.locator("#theme label", has_text="Dark").click()
    assert light.page.evaluate(background) == of_dark
    light.page.reload()
    light.linked()
    assert light.page.evaluate(background) == of_dark
    light.page.locator("#theme label", has_text="Auto").click()
    assert light.page.evaluate(background) == of_light


@pytest.mark.parametrize("width", [320, 390, 768])
def test_narrow_pages_scroll_in_one_direction(opened: Callable[..., Visit], width: int) -> None:
    visit = opened(viewport={"width": width, "height": 800}, reduced_motion="reduce")
    page = visit.open()
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(overflow) == 0
    page.locator(".name").nth(2).click()
    expect(page.locator("#inspector")).to_be_in_viewport()
    expect(page.locator(".name[aria-current]")).to_be_in_viewport()
    if width < 768:
        bottom = page.locator(".name[aria-current]").bounding_box()
        assert bottom is not None
        assert bottom["y"] + bottom["height"] <= page.locator("#inspector").bounding_box()["y"]  # type: ignore[index]
    assert page.evaluate(overflow) == 0
    assert visit.severe() == []
    page.keyboard.press("Escape")
    expect(page.locator("#inspector")).to_be_hidden()
    page.check("#labels")
    assert page.evaluate(overflow) == 0


# --- the docs --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not SCREENSHOTS, reason="set BLINK_SCREENSHOTS=1 to write docs/assets/page-*.png again")
def test_screenshots(opened: Callable[..., Visit]) -> None:
    for scheme in ("light", "dark"):
        write(f"page-{scheme}", opened(color_scheme=scheme, reduced_motion="reduce").open())
    page = opened(reduced_motion="reduce", device_scale_factor=1.5).open()
    page.set_viewport_size({"width": 1280, "height": 1400})
    page.locator(".candidate > button").first.click()
    write("page-details", page.locator("#inspector"))
    page.click("text=Long text")
    page.check("#labels")
    page.locator(".name", has_text="Kubrick").click()
    page.set_viewport_size({"width": 1280, "height": 1000})
    page.evaluate("scrollTo(0, document.querySelector('.result').offsetTop - 12)")
    write("page-document", page)
    phone = opened(viewport={"width": 390, "height": 844}, reduced_motion="reduce", device_scale_factor=1.5)
    phone.open().locator(".name").nth(5).click()
    write("page-phone", phone.page)


def write(name: str, shown: Page | Locator) -> None:
    """Write a screenshot of few colours, which is small."""
    from PIL import Image

    file = ROOT / "docs" / "assets" / f"{name}.png"
    image = Image.open(BytesIO(shown.screenshot())).convert("RGB")
    image.quantize(200, dither=Image.Dither.NONE).save(file, optimize=True)
    assert file.stat().st_size < 200_000
