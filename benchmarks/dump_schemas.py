"""Synthetic dumps with the schemas of the real ones: JSON of Wikidata's items, XML and wikitext of Wikipedia's pages.

All is drawn from a seed. The shares of kinds of items and pages, and the number of claims, qualifiers, references and
languages, are estimates of those of the public dumps; names and prose are drawn syllables and words.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr

LANGUAGES = re.findall(
    r"[\w-]+",
    """en de fr es it nl pl pt ru ja zh ar sv uk fa ca cs fi hu id ko nb tr vi he da ro sk sl el bg hr sr lt et lv eu gl
    en-gb en-ca mul ast ga cy oc sq bn hi ta te ml mr ur th ms eo la be kk az hy ka""",
)
SCRIPTS = {
    "ru": "лоинартевк",
    "ja": "東京大学日本語研究",
    "zh": "中国人民大学北京",
    "ar": "المدينةكتاب",
    "uk": "їлоинарт",
    "el": "αβγδεστου",
}
SYLLABLES = re.findall(
    r"[\w-]+",
    """ba be bi bo da de di do ka ke ki ko la le li lo ma me mi mo na ne ni no ra re ri ro sa se si so ta te ti to va ve vi
    wen""",
)
WORDS = re.findall(
    r"[\w-]+",
    """the of and in to was is for as on with by he that at from his it an were are which this be has had first also their
    new who after its two one been not but into other when during time city area state national team year school film
    album company born world people century known member career season game league university series population built
    group family early later several received became between under over published located part house war music local road
    river station district""",
)
CLASSES = {5: "human", 515: "city", 6256: "country", 11424: "film", 482994: "album", 4830453: "business", 16521: "taxon",
           532: "village", 4022: "river", 13442814: "scholarly article",
           7725634: "literary work", 3918: "university"}  # fmt: skip
DROPPED_CLASSES = {4167410: "Wikimedia disambiguation page", 4167836: "Wikimedia category", 11266439: "Wikimedia template",
                   13406463: "Wikimedia list article"}  # fmt: skip
ITEM_PROPERTIES = ("P17", "P27", "P106", "P19", "P131", "P50", "P57", "P361", "P69", "P166")
STRING_PROPERTIES = ("P646", "P1566", "P345", "P214", "P227", "P213", "P2671")


@dataclass
class Vocabulary:
    """Names and words of one seed."""

    rng: random.Random
    names: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.names = ["".join(self.rng.choices(SYLLABLES, k=self.rng.randint(2, 4))).capitalize() for _ in range(6000)]

    def name(self) -> str:
        return " ".join(self.rng.choices(self.names, k=self.rng.choice((1, 2, 2, 3))))

    def words(self, count: int) -> str:
        return " ".join(self.rng.choices(WORDS, k=count))

    def sentence(self) -> str:
        return f"{self.words(self.rng.randint(6, 18)).capitalize()}."


def dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


# -- Wikidata ------------------------------------------------------------------------------------------------------------


class WikidataItems:
    """Lines of a JSON dump.

    Args:
        seed: of everything.
        broken_share: share of lines that are cut off.
    """

    def __init__(self, seed: int, broken_share: float = 2e-5) -> None:
        self._rng = random.Random(seed)
        self._vocabulary = Vocabulary(self._rng)
        self._broken_share = broken_share

    def lines(self) -> Iterator[bytes]:
        """Lines without end: brackets and commas as in the real files; the caller writes the closing bracket."""
        yield b"["
        for q, label in sorted({**CLASSES, **DROPPED_CLASSES}.items()):
            yield self._line(self._item(q, label, classes=(16889133,), n_sites=0, n_languages=12, n_claims=3))
        for property_ in (*ITEM_PROPERTIES, *STRING_PROPERTIES):
            yield self._line(self._property(property_))
        q = 20_000_000
        while True:
            q += self._rng.randint(1, 40)
            line = self._line(self._drawn(q))
            yield line[: len(line) // 2] if self._rng.random() < self._broken_share else line

    def _line(self, value: object) -> bytes:
        return dumps(value).encode() + b","

    def _drawn(self, q: int) -> dict[str, object]:
        rng, kind, name = self._rng, self._rng.random(), self._vocabulary.name()
        if kind < 0.38:  # papers: no page, many authors
            title = self._vocabulary.words(rng.randint(6, 14)).capitalize()
            return self._item(q, title, (13442814,), 0, rng.randint(1, 4), rng.randint(8, 20))
        if kind < 0.60:
            return self._item(
                q, name, (rng.choice((16521, 532, 5)),), rng.randint(0, 3), rng.randint(1, 12), rng.randint(3, 10)
            )
        if kind < 0.94:
            classes = tuple(rng.sample(sorted(CLASSES), rng.choice((1, 1, 2))))
            return self._item(q, name, classes, rng.randint(4, 25), rng.randint(8, 40), rng.randint(8, 30))
        if kind < 0.97:
            return self._item(q, name, (rng.choice(sorted(DROPPED_CLASSES)),), rng.randint(1, 12), rng.randint(3, 30), 1)
        return self._item(q, name, (rng.choice(sorted(CLASSES)),), rng.randint(40, 150), len(LANGUAGES), rng.randint(40, 150))

    def _item(
        self, q: int, name: str, classes: tuple[int, ...], n_sites: int, n_languages: int, n_claims: int
    ) -> dict[str, object]:
        languages = ["en", *self._rng.sample(LANGUAGES[1:], min(n_languages, len(LANGUAGES)) - 1)]
        if self._rng.random() < 0.04:
            languages = languages[1:] or ["de"]
        labels = {code: {"language": code, "value": self._label(code, name)} for code in languages}
        described = languages if self._rng.random() < 0.8 else languages[1:]
        descriptions = {code: {"language": code, "value": self._label(code, self._vocabulary.words(4))} for code in described}
        aliased = self._rng.sample(languages, len(languages) // 3)
        aliases = {code: [{"language": code, "value": self._label(code, self._vocabulary.name())}] for code in aliased}
        sites = ["enwiki", *(f"{code.replace('-', '_')}wiki" for code in LANGUAGES[1:]), *(f"s{n}wiki" for n in range(100))]
        sitelinks = {site: {"site": site, "title": name, "badges": []} for site in sites[:n_sites]}
        return {
            "type": "item", "id": f"Q{q}", "labels": labels or [], "descriptions": descriptions or [], "aliases": aliases or [],
            "claims": self._claims(q, classes, n_claims) or [], "sitelinks": sitelinks or [],
            "pageid": q + 100, "ns": 0, "title": f"Q{q}", "lastrevid": self._rng.randrange(2 * 10**9),
            "modified": "2026-01-01T00:00:00Z",
        }  # fmt: skip

    def _label(self, code: str, text: str) -> str:
        letters = SCRIPTS.get(code)
        return "".join(self._rng.choices(letters, k=len(text) // 2 + 1)) if letters else text

    def _property(self, identifier: str) -> dict[str, object]:
        name = f"property {identifier}"
        kind = "external-id" if identifier in STRING_PROPERTIES else "wikibase-item"
        labels = {code: {"language": code, "value": name} for code in ("en", "de")}
        return {
            "type": "property",
            "datatype": kind,
            "id": identifier,
            "labels": labels,
            "descriptions": [],
            "aliases": [],
            "claims": [],
        }

    def _claims(self, q: int, classes: tuple[int, ...], count: int) -> dict[str, list[object]]:
        claims: dict[str, list[object]] = {"P31": [self._claim(q, self._of_item("P31", c)) for c in classes]}
        for _ in range(count):
            snak = self._snak()
            claims.setdefault(str(snak["property"]), []).append(self._claim(q, snak))
        return claims

    def _snak(self) -> dict[str, object]:
        rng, kind = self._rng, self._rng.random()
        if kind < 0.35:
            q = rng.choice(sorted(CLASSES)) if rng.random() < 0.3 else 20_000_000 + rng.randrange(400_000)
            return self._of_item(rng.choice(ITEM_PROPERTIES), q)
        if kind < 0.6:
            return self._value(rng.choice(STRING_PROPERTIES), "external-id", "string", f"/m/0{rng.randrange(10**6):x}")
        if kind < 0.75:
            time = {"time": f"+{rng.randint(1500, 2020)}-00-00T00:00:00Z", "timezone": 0, "before": 0, "after": 0,
                    "precision": 9,                     "calendarmodel": "http://www.wikidata.org/entity/Q1985727"}  # fmt: skip
            return self._value(rng.choice(("P569", "P571", "P577")), "time", "time", time)
        if kind < 0.83:
            point = {"latitude": rng.uniform(-90, 90), "longitude": rng.uniform(-180, 180), "altitude": None, "precision": 1e-4,
                     "globe": "http://www.wikidata.org/entity/Q2"}  # fmt: skip
            return self._value("P625", "globe-coordinate", "globecoordinate", point)
        if kind < 0.9:
            return self._value("P1082", "quantity", "quantity", {"amount": f"+{rng.randrange(10**6)}", "unit": "1"})
        if kind < 0.97:
            return self._value(
                "P1476", "monolingualtext", "monolingualtext", {"text": self._vocabulary.words(6), "language": "en"}
            )
        return {"snaktype": "novalue", "property": "P40", "hash": self._hash(), "datatype": "wikibase-item"}

    def _of_item(self, property_: str, q: int) -> dict[str, object]:
        return self._value(
            property_, "wikibase-item", "wikibase-entityid", {"entity-type": "item", "numeric-id": q, "id": f"Q{q}"}
        )

    def _value(self, property_: str, datatype: str, kind: str, value: object) -> dict[str, object]:
        return {"snaktype": "value", "property": property_, "hash": self._hash(), "datavalue": {"value": value, "type": kind},
                "datatype": datatype}  # fmt: skip

    def _hash(self) -> str:
        return f"{self._rng.getrandbits(160):040x}"

    def _claim(self, q: int, snak: dict[str, object]) -> dict[str, object]:
        rng = self._rng
        claim: dict[str, object] = {"mainsnak": snak, "type": "statement"}
        if rng.random() < 0.25:
            claim |= {"qualifiers": {"P585": [self._value("P585", "string", "string", "x")]}, "qualifiers-order": ["P585"]}
        guid = f"{rng.getrandbits(128):032X}"
        claim |= {"id": f"Q{q}${guid[:8]}-{guid[8:12]}-{guid[12:16]}-{guid[16:20]}-{guid[20:]}"}
        claim["rank"] = rng.choices(("normal", "preferred", "deprecated"), (95, 4, 1))[0]
        if rng.random() < 0.6:
            snaks = {"P248": [self._of_item("P248", 36578)], "P813": [self._value("P813", "string", "string", "2020")]}
            claim["references"] = [{"hash": self._hash(), "snaks": snaks, "snaks-order": list(snaks)}]
        return claim


# -- Wikipedia -----------------------------------------------------------------------------------------------------------

HEADER = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" \
xsi:schemaLocation="http://www.mediawiki.org/xml/export-0.11/ http://www.mediawiki.org/xml/export-0.11.xsd" \
version="0.11" xml:lang="en">
  <siteinfo>
    <sitename>Wikipedia</sitename>
    <dbname>enwiki</dbname>
    <base>https://en.wikipedia.org/wiki/Main_Page</base>
    <generator>MediaWiki 1.44.0</generator>
    <case>first-letter</case>
    <namespaces>
      <namespace key="0" case="first-letter" />
      <namespace key="1" case="first-letter">Talk</namespace>
      <namespace key="4" case="first-letter">Wikipedia</namespace>
      <namespace key="6" case="first-letter">File</namespace>
      <namespace key="10" case="first-letter">Template</namespace>
      <namespace key="14" case="first-letter">Category</namespace>
    </namespaces>
  </siteinfo>
"""
FOOTER = "</mediawiki>\n"


class WikipediaPages:
    """Pages of an XML dump.

    Args:
        seed: of everything.
        n_titles: titles that links draw from.
    """

    def __init__(self, seed: int, n_titles: int = 60_000) -> None:
        self._rng = random.Random(seed)
        self._vocabulary = Vocabulary(self._rng)
        self._titles = [f"{self._vocabulary.name()}{self._brackets()}" for _ in range(n_titles)]

    def pages(self) -> Iterator[tuple[int, str, str]]:
        """Id, title and XML of pages, without end; titles repeat once all are used."""
        rng, number = self._rng, 0
        while True:
            title = self._titles[number % len(self._titles)] + (
                f" {number // len(self._titles)}" if number >= len(self._titles) else ""
            )
            number += 1
            kind = rng.random()
            if kind < 0.40:
                section = "#History" if rng.random() < 0.1 else ""
                target = rng.choice(self._titles)
                page = self._page(number, title, f"#REDIRECT [[{target}{section}]]\n\n{{{{R from move}}}}", redirect=target)
            elif kind < 0.46:
                space, template = rng.choice(((10, f"Template:{title}"), (14, f"Category:{title}"), (4, f"Wikipedia:{title}")))
                title = template
                page = self._page(number, title, self._vocabulary.words(60), namespace=space)
            else:
                page = self._page(number, title, self._article(title))
            yield number, title, page

    def _brackets(self) -> str:
        return f" ({self._rng.choice(('film', 'band', 'village', 'album'))})" if self._rng.random() < 0.12 else ""

    def _page(self, number: int, title: str, text: str, namespace: int = 0, redirect: str = "") -> str:
        arrow = f"    <redirect title={quoteattr(redirect)} />\n" if redirect else ""
        digest = hashlib.sha1(text.encode()).hexdigest()[:31]
        return (
            f"  <page>\n    <title>{escape(title)}</title>\n    <ns>{namespace}</ns>\n    <id>{number}</id>\n{arrow}"
            f"    <revision>\n      <id>{number * 7}</id>\n      <parentid>{number * 7 - 1}</parentid>\n"
            f"      <timestamp>2026-01-01T00:00:00Z</timestamp>\n      <contributor>\n        <username>User</username>\n"
            f"        <id>{number % 97}</id>\n      </contributor>\n      <minor />\n      <comment>a &amp; b</comment>\n"
            f"      <origin>{number * 7}</origin>\n      <model>wikitext</model>\n      <format>text/x-wiki</format>\n"
            f'      <text bytes="{len(text.encode())}" sha1="{digest}" xml:space="preserve">{escape(text)}</text>\n'
            f"      <sha1>{digest}</sha1>\n    </revision>\n  </page>\n"
        )

    def _article(self, title: str) -> str:
        rng, words = self._rng, self._vocabulary
        if rng.random() < 0.03:
            entries = "".join(f"* [[{rng.choice(self._titles)}]], {words.words(5)}\n" for _ in range(rng.randint(2, 12)))
            return f"'''{title}''' may refer to:\n{entries}\n{{{{disambiguation}}}}\n"
        if rng.random() < 0.03:
            return f"This is a '''list of {title}'''.\n" + "".join(f"* [[{rng.choice(self._titles)}]]\n" for _ in range(60))
        bare = title.partition(" (")[0]
        lead = (
            f"'''{bare}''' ({{{{IPAc-en|b|a}}}}; born {{{{birth date|1950|1|{rng.randint(1, 28)}}}}}) "
            f"is a [[{rng.choice(self._titles)}]] "
            f"{words.words(6)}{self._reference()} in {self._link()}. {self._sentence()} {self._sentence()}"
        )
        blocks = [
            "{{Short description|" + words.words(4) + "}}\n{{Use dmy dates|date=May 2024}}",
            self._infobox(bare),
            lead,
            self._paragraph(),
        ]
        for _ in range(rng.randint(1, 9)):
            blocks += [f"== {words.words(2).capitalize()} ==", *(self._paragraph() for _ in range(rng.randint(1, 4)))]
            blocks += [rng.choice(SECTION_BLOCKS)(self)] if rng.random() < 0.5 else []
        blocks.append(
            "== References ==\n{{reflist|2}}\n\n== External links ==\n"
            "* [https://example.org/x Official site]\n{{Authority control}}"
        )
        blocks.append("\n".join(f"[[Category:{rng.choice(self._titles)}]]" for _ in range(rng.randint(1, 8))))
        return "\n\n".join(blocks)

    def _link(self) -> str:
        rng, target = self._rng, self._titles[int(len(self._titles) * self._rng.random() ** 3)]
        kind = rng.random()
        if kind < 0.6:
            return f"[[{target}]]"
        if kind < 0.9:
            return f"[[{target}|{rng.choice((target.split()[-1].strip('()'), self._vocabulary.name(), '1st ' + target))}]]"
        return f"[[{target[:1].lower()}{target[1:]}]]s" if kind < 0.96 else f"[[{target}#Early life|{target}]]"

    def _sentence(self) -> str:
        rng, words = self._rng, self._vocabulary
        inside = rng.choice(
            (self._link(), self._link(), f"''{words.name()}''", "{{convert|5|km|mi}}", "&nbsp;12", words.name())
        )
        return f"{words.words(rng.randint(3, 9)).capitalize()} {inside} {words.words(rng.randint(3, 10))}.{self._reference()}"

    def _paragraph(self) -> str:
        return " ".join(self._sentence() for _ in range(self._rng.randint(2, 7)))

    def _reference(self) -> str:
        rng, words = self._rng, self._vocabulary
        kind = rng.random()
        if kind < 0.55:
            return ""
        if kind < 0.7:
            return f'<ref name="n{rng.randrange(9)}" />'
        url = f"https://example.org/{rng.randrange(10**6)}"
        cited = f"{{{{cite web |url={url} |title={words.words(6)} |date=2 May 2020 |publisher=[[{words.name()}]]}}}}"
        return f"<ref>{cited}</ref>" if kind < 0.97 else f"<!-- {words.words(8)} -->"

    def _infobox(self, name: str) -> str:
        rows = "".join(f"| {key} = {self._field()}\n" for key in WORDS[30 : 30 + self._rng.randint(5, 18)])
        return f"{{{{Infobox person\n| name = {name}\n{rows}}}}}"

    def _field(self) -> str:
        rng = self._rng
        return rng.choice((self._link(), "{{birth date and age|1950|1|1}}", "{{ubl|" + self._link() + "|" + self._link() + "}}",
                           str(rng.randrange(10**5)), "{{flag|France}} {{nowrap|{{small|a}}}}"))  # fmt: skip

    def _table(self) -> str:
        rows = "\n".join(
            f"|-\n| {self._link()} || {self._rng.randrange(999)} || {self._vocabulary.words(3)}" for _ in range(12)
        )
        return '{| class="wikitable sortable"\n! A !! B !! C\n' + rows + "\n|}"

    def _file(self) -> str:
        name, words = self._vocabulary.name(), self._vocabulary.words(5)
        return f"[[File:{name}.jpg|thumb|left|upright=1.2|A view of {self._link()}, {words}]]"

    def _list(self) -> str:
        return "\n".join(f"* {self._link()} – {self._sentence()}" for _ in range(8))

    def _gallery(self) -> str:
        return "<gallery>\nFile:A.jpg|Caption\nFile:B.jpg|Other [[link]]\n</gallery>\n<math>x^{2}_{[[1]]}</math>"


SECTION_BLOCKS: tuple[Callable[[WikipediaPages], str], ...] = (
    WikipediaPages._table, WikipediaPages._file, WikipediaPages._list, WikipediaPages._gallery,
)  # fmt: skip
