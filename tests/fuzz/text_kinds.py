"""Kinds that people write: catalogues, labelled texts, exports of tools, texts, records, dumps, settings of a cluster."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import lzma
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.fuzz.kinds import Kind

TITLES = ("Oslo", "Bergen", "Nile", "Lake Garda", "Mount Elbrus", "Java", "Rhine", "Etna", "Turing", "Łódź")
ENTITIES: list[dict[str, Any]] = [
    {
        "title": title,
        "text": f"thing {i} of kind {i % 3} <b>&amp;",
        "kb_idx": f"Q{100 + i}",
        "aliases": [f"{title} {i}", f"the {title}"],
        "types": ["place", f"kind {i % 3}"],
        "tags": ["toy"],
        "ids": {"freebase": f"/m/0{i}"},
        "popularity": 10 * i,
        "idx": f"https://en.wikipedia.org/wiki?curid={i}",
    }
    for i, title in enumerate(TITLES)
]
TEXTS = ("Oslo and Bergen are cities.", "the nile 👏 flows", "Turing liked Łódź, and Java too", "", "nothing")


def lines(rows: Sequence[Any]) -> str:
    """JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write(path: Path, content: str | bytes) -> Path:
    """Write a file of the sample."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# --- catalogues -----------------------------------------------------------------------------------------------------


def _as_table(separator: str) -> str:
    import io

    out = io.StringIO()
    writer = csv.writer(out, delimiter=separator, lineterminator="\r\n")
    keys = ("kb_idx", "title", "text", "aliases", "types", "tags", "idx")
    writer.writerow(("id", "name", "description", "aliases", "types", "tags", "url"))
    writer.writerows(["|".join(v) if isinstance(v := e[k], list) else v for k in keys] for e in ENTITIES)
    return out.getvalue()


def catalogues(folder: Path) -> None:
    """The same entities in each form."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import zstandard

    write(folder / "entities.jsonl", lines(ENTITIES))
    write(folder / "entities.json", json.dumps(ENTITIES, indent=1))
    write(folder / "entities.csv", _as_table(","))
    write(folder / "entities.tsv", _as_table("\t"))
    write(folder / "short.jsonl.gz", gzip.compress(lines(ENTITIES).encode(), mtime=0))
    write(folder / "short.csv.bz2", bz2.compress(_as_table(";").encode()))
    write(folder / "short.json.xz", lzma.compress(json.dumps(ENTITIES).encode()))
    write(folder / "short.jsonl.zst", zstandard.ZstdCompressor().compress(lines(ENTITIES).encode()))
    write(folder / "columns.tsv", "name\talias\nOslo\tKristiania;Christiania\nBergen\t\n")
    pq.write_table(
        pa.Table.from_pylist([{k: v for k, v in e.items() if k != "ids"} for e in ENTITIES]), folder / "entities.parquet"
    )


def _build_from(folder: Path, source: Path) -> None:
    """Build a knowledge base of a file, by an encoder of words."""
    from blink.kb.building import BuildProgress, build_knowledge_base
    from blink.kb.knowledge_base import KnowledgeBase
    from tests.resolve_toys import encode_words

    build_knowledge_base(source, folder / "kb", encode_words, "words", progress=BuildProgress(note=print))
    kb = KnowledgeBase.open(folder / "kb")
    print(len(kb.catalogue), [kb.names.find(title) for title in TITLES] if hasattr(kb.names, "find") else "")


def _build_skipping(folder: Path, source: Path) -> None:
    from blink.kb.building import build_knowledge_base
    from tests.resolve_toys import encode_words

    build_knowledge_base(source, folder / "kb", encode_words, "words", skip_bad=True)


# --- labelled texts -------------------------------------------------------------------------------------------------

LABELLED: list[dict[str, Any]] = [
    {
        "id": "1",
        "text": "does oslo lie in norway?",
        "mentions": [[17, 23], [5, 9]],
        "tokenized_text_ids": [2515, 9977, 4682, 1999, 5120, 1029],
        "tokenized_mention_idxs": [[4, 5], [1, 2]],
        "label_id": [20, 585],
        "wikidata_id": ["Q20", None],
        "entity": ["Norway", "Oslo"],
        "label": ["a country", "a city"],
        "category": ["place", "place"],
        "text_chunks": [],
    },
    {"id": 2, "text": "the nile 👏", "mentions": [[4, 8]], "label_id": [3], "wikidata_id": ["Q102"], "partial": True},
]
LEGACY = [
    {
        "question_id": "old-7",
        "context_left": ["", "ravel wrote "],
        "mention": ["ravel", "bolero"],
        "context_right": [" wrote bolero", ""],
        "label": ["a composer", "a piece"],
        "title": ["Maurice Ravel", "Boléro"],
        "entity": ["Maurice Ravel", "Boléro"],
        "label_id": [3, -1],
        "wikidata_id": ["Q1178", None],
    }
]
RAW = [
    {
        "question_id": "raw-1",
        "utterance": "who built the eiffel tower in paris",
        "entities": ["Q243", None, "Q90"],
        "entities_pos": [[14, 26], [30, 35], [-1, -1]],
        "entities_fb": ["m.02j81", "m.05qtj"],
        "main_entity": None,
    }
]
TOKENISED = [
    {
        "id": "t",
        "text": "oslo",
        "tokenized_text_ids": [9977],
        "tokenized_mention_idxs": [[0, 1]],
        "label_id": [1],
        "mentions": [[0, 4]],
    }
]
UNLABELLED = [{"id": i, "text": text} for i, text in enumerate(TEXTS) if text]
CORRECTED = [
    {
        "id": "c",
        "text": "Oslo and Java",
        "mentions": [[0, 4]],
        "wikidata_id": ["Q100"],
        "label_id": [0],
        "unlabelled": [[9, 13]],
    }
]


def mention_files(folder: Path) -> None:
    """One file for each layout, and all compressed or as an array."""
    for name, rows in (
        ("labelled", LABELLED),
        ("legacy", LEGACY),
        ("raw", RAW),
        ("tokenised", TOKENISED),
        ("texts", UNLABELLED),
        ("corrections", CORRECTED),
    ):
        write(folder / f"{name}.jsonl", lines(rows))
    write(folder / "array.json", json.dumps(LABELLED))
    write(folder / "packed.jsonl.gz", gzip.compress(lines(LABELLED * 20).encode(), mtime=0))


def rows_by_id() -> Any:
    """Entities as `bind` takes them, without a knowledge base."""
    from blink.data.records import Entity

    class Rows(list):  # type: ignore[type-arg]
        def row_of(self, kb_id: str) -> int | None:
            return next((e.row for e in self if e.kb_id == kb_id), None)

    return Rows(Entity(i, e["title"], e["text"], e["kb_idx"]) for i, e in enumerate(ENTITIES))


def _read_mentions(folder: Path, source: Path) -> None:
    from blink.data.mention_files import bind, evaluation_samples, row_of

    print(json.dumps([row_of(sample) for sample in bind(evaluation_samples(source), rows_by_id())]))


def annotations(folder: Path) -> None:
    """Exports of Label Studio, doccano and ELEVANT."""
    regions = [
        {
            "id": "a",
            "type": "labels",
            "from_name": "label",
            "to_name": "text",
            "value": {"start": 0, "end": 4, "text": "Oslo", "labels": ["Q100"]},
            "score": 0.5,
        }
    ]
    tasks = [
        {
            "id": 1,
            "data": {"text": TEXTS[0], "id": "x"},
            "annotations": [{"id": 3, "result": regions, "was_cancelled": False}],
            "predictions": [],
        }
    ]
    write(folder / "label-studio.json", json.dumps(tasks))
    write(
        folder / "doccano.jsonl",
        lines([{"id": 1, "text": TEXTS[0], "label": [[0, 4, "Q100"], [9, 15, "NIL"]], "Comments": []}]),
    )
    write(
        folder / "elevant.jsonl",
        lines(
            [
                {
                    "id": 1,
                    "title": "",
                    "text": TEXTS[0],
                    "labels": [{"id": 0, "span": [0, 4], "entity_id": "Q100", "name": "Oslo", "type": "Q5"}],
                    "evaluation_span": [0, 27],
                }
            ]
        ),
    )
    write(
        folder / "links.jsonl",
        lines(
            [
                {
                    "text": TEXTS[0],
                    "id": 1,
                    "links": [
                        {
                            "start": 0,
                            "end": 4,
                            "mention": "Oslo",
                            "row": 0,
                            "kb_id": "Q100",
                            "title": "Oslo",
                            "score": 0.5,
                            "candidates": [{"row": 0, "kb_id": "Q100", "title": "Oslo", "score": 0.5}],
                        }
                    ],
                }
            ]
        ),
    )


def comparisons(folder: Path) -> None:
    """Rows of `blink eval --rows` of two systems, with their gold."""
    span = {"id": "Q100", "start": 0, "end": 4, "mention": "Oslo", "label": "correct"}
    hits = {"correct": 1, "pairs": [[0, 0]]}
    row = {
        "id": "1",
        "text": TEXTS[0],
        "covered": True,
        "group": "g",
        "gold": [span],
        "predicted": [{**span, "score": 0.7}],
        "weak": hits,
        "strong": hits,
        "labels": {"correct": 1},
    }
    for name in ("a", "b"):
        write(
            folder / f"{name}.jsonl",
            lines(
                [
                    row,
                    {
                        **row,
                        "id": "2",
                        "gold": [],
                        "predicted": [],
                        "weak": {"correct": 0, "pairs": []},
                        "strong": {"correct": 0, "pairs": []},
                    },
                ]
            ),
        )
    gold = {"id": "1", "text": TEXTS[0], "mentions": [[0, 4]], "label_id": [0], "wikidata_id": ["Q100"]}
    write(folder / "gold.jsonl", lines([gold, {**gold, "id": "2", "mentions": [], "label_id": [], "wikidata_id": []}]))


# --- texts and records ----------------------------------------------------------------------------------------------


def records(folder: Path) -> None:
    """Records and texts for bulk runs, and what a run of them wrote."""
    import zstandard

    rows = [{"id": i, "text": text, "date": f"day {i}"} for i, text in enumerate(TEXTS * 4)]
    write(folder / "records.jsonl", lines(rows))
    write(folder / "texts.txt", "\n".join(TEXTS * 4))
    write(folder / "packed.txt.gz", gzip.compress("\n".join(TEXTS * 9).encode(), mtime=0))
    write(folder / "packed.txt.bz2", bz2.compress("\n".join(TEXTS * 9).encode()))
    write(folder / "packed.txt.xz", lzma.compress("\n".join(TEXTS * 9).encode()))
    write(folder / "packed.jsonl.zst", zstandard.ZstdCompressor().compress(lines(rows).encode()))


def _layout(source: Path) -> Any:
    from blink.bulk.records import RecordLayout

    return RecordLayout("text", carry=("all",)) if ".jsonl" in source.name else RecordLayout()


def _link_records(out_name: str) -> Any:
    def use(folder: Path, source: Path) -> None:
        from blink.bulk.run import BulkJob, link_files
        from tests.bulk_toys import ToyLinker

        job = BulkJob((str(source),), folder / out_name, _layout(source), chunk_lines=4)
        print(link_files(job, ToyLinker()))

    return use


def _read_texts(folder: Path, source: Path) -> None:
    from blink.data.text_lines import read_lines

    print(json.dumps(list(read_lines(str(source)))))


# --- resolution -----------------------------------------------------------------------------------------------------

PEOPLE = [
    {
        "name": "Gwendolyn Pugh",
        "type": "person",
        "description": "organist at the church of Nevern",
        "aliases": ["G. Pugh"],
        "id": "7",
        "source": "a",
    },
    {"name": "Gwen Pugh", "type": "person", "description": "organist of the church in Nevern", "context": "Gwen Pugh plays."},
    {"name": "Brandt Optik GmbH", "type": "company", "description": "maker of lenses in Jena"},
    {"text": "Jena has Brandt Optik.", "spans": [[0, 4], [9, 21]]},
]
PAIRS = [
    {"a": PEOPLE[0], "b": PEOPLE[1], "same": True},
    {"a": PEOPLE[0], "b": PEOPLE[2], "same": False},
    {"left": PEOPLE[0], "right": PEOPLE[1], "label": 1},
]


def resolving(folder: Path) -> None:
    """A knowledge base with a ledger, records, a plan of merges, and pairs."""
    from blink.resolve.resolver import Resolver
    from tests.resolve_toys import base

    kb = base(
        folder / "kb",
        [
            {"title": "Jena", "text": "city in Thuringia", "kb_idx": "Q3150", "types": ["city"]},
            {"title": "Jena", "text": "city of Thuringia", "kb_idx": "Q3151", "types": ["city"]},
        ],
    )
    list(Resolver(kb).resolve(PEOPLE[:3]))
    (folder / "kb.jsonl").unlink()
    write(folder / "records.jsonl", lines(PEOPLE))
    write(folder / "records.json", json.dumps(PEOPLE[:3]))
    write(folder / "records.csv", 'name,type,description\nJena,city,a city\n"Pugh, Gwen",person,organist\n')


def _resolve(folder: Path, source: Path) -> None:
    from blink.resolve.reading import read_records
    from blink.resolve.resolver import Resolver
    from tests.resolve_toys import reopened

    for name in ("records.jsonl", "records.json", "records.csv"):
        matches = list(Resolver(reopened(folder / "kb")).resolve(list(read_records(folder / name))))
        print([(r.status, r.entity and r.entity.kb_id) for r in matches])


# --- dumps ----------------------------------------------------------------------------------------------------------


def wikidata(folder: Path) -> None:
    """A dump of Wikidata, plain and compressed."""
    from tests import dump_toys
    from tests.dump_toys import item, texts

    values = [
        item(5, "human", 10, {"P279": [35120]}),
        item(515, "city", 300, {"P279": [486972]}),
        item(142, "France", 350, {"P31": [6256]}),
        item(90, "Paris", 320, {"P31": [515], "P17": [142, 7]}, aliases={"en": [{"language": "en", "value": "City of Light"}]}),
        item(
            7186,
            "Marie Curie",
            200,
            {"P31": [5], "P569": [{"time": "+1867-11-07T00:00:00Z", "precision": 11}], "P646": ["/m/053_d"]},
        ),
        item(
            64, "", 30, labels=texts(mul="Many"), descriptions=texts(en="something with a description that is not thin at all")
        ),
        {"type": "property", "id": "P106", "labels": texts(en="occupation of a person")},
    ]
    text = dump_toys.wikidata(values)
    write(folder / "dump.json", text)
    for how, end in (("bz2", "bz2"), ("multistream", "json.bz2"), ("gz", "gz"), ("zst", "zst")):
        write(folder / f"{how}.{end}", dump_toys.STORED[how](text))


WIKITEXT = """{{Short description|Capital of France}}
{{Infobox settlement
| name = Paris
}}
[[File:Seine.jpg|thumb|left|The [[Seine]] in '''Paris''']]
'''Paris''' ({{IPA|fr|x}}; <!-- hidden --> is the [[Capital city|capital]] of [[france]].<ref name="a">{{cite web|title=x}}</ref> It has&nbsp;{{convert|5|km|mi}} of [[river]]s.
{| class="wikitable"
| [[Rome]] || {{x}}
|}
== History ==
See [[Rome#History|old Rome]]. [[Category:Cities]] [[fr:Paris]]
"""  # noqa: E501


def wikipedia(folder: Path) -> None:
    """A dump of Wikipedia, plain and compressed, with its index and page properties."""
    from tests import dump_toys
    from tests.dump_toys import page

    pages = [
        page(10, "Paris", WIKITEXT),
        page(11, "City of Light", redirect="Paris"),
        page(13, "Loop A", redirect="Loop A"),
        page(16, "Rome", "'''Rome''' is the capital of [[Italy]], not [[Paris]] or [[city of Light|Paree]]."),
        page(18, "France", "'''France''' is a country with [[Paris]], [[Paris]] and [[PARIS]]."),
    ]
    text = dump_toys.wikipedia(pages)
    write(folder / "dump.xml", text)
    for how, end in (("bz2", "bz2"), ("multistream", "xml.bz2"), ("gz", "gz"), ("zst", "zst")):
        write(folder / f"{how}.{end}", dump_toys.STORED[how](text))
    rows = "(10,'wikibase_item','Q90',NULL),(16,'wikibase_item','Q220',NULL),(18,'defaultsort','It\\'s',1.5)"
    write(folder / "props.sql", f"CREATE TABLE `page_props` (x);\nINSERT INTO `page_props` VALUES {rows};\n")


# --- settings of a cluster ------------------------------------------------------------------------------------------


def cluster(folder: Path) -> None:
    """Settings of a cluster, as INI."""
    root = Path(__file__).resolve().parents[2]
    shutil.copy(root / "examples" / "cluster.ini", folder / "cluster.ini")
    write(
        folder / "site.ini",
        """# a comment
[slurm]
partition = learnfair   # of the file
gpus = 8
time_min = 3000
account =
setup = module load cuda
    ulimit -n 4096
[paths]
data = /data
[flags]
train = --num_train_epochs 3 --seed '7'
""",
    )
    write(folder / "texts.txt", "\n".join(TEXTS))


def tokens(folder: Path) -> None:
    """What a server reads: its token, lists of entities, a file of corrections."""
    write(folder / "token.txt", "0123456789abcdef\n")
    write(folder / "allow.txt", "Q100\nrow:3\n# a comment\n\nQ105\n")
    write(folder / "corrections.jsonl", lines(CORRECTED))


def _read_server_files(folder: Path, source: Path) -> None:
    from blink.data.corrections import Corrections

    corrections = Corrections.read(source)
    corrections.add("Etna", 0, 4, None)
    corrections.save(source)
    print(len(Corrections.read(source)), source.read_text())


NIF = """@prefix nif: <http://persistence.uni-leipzig.org/nlp2rdf/ontologies/nif-core#> .
@prefix xsd: <http://www.w3.org/2001/XMLSchema#> .
<http://example.org/request_0#char=0,21>
        a nif:RFC5147String , nif:String , nif:Context ;
        nif:beginIndex "0"^^xsd:nonNegativeInteger ; nif:endIndex "21"^^xsd:nonNegativeInteger ;
        nif:isString "Peter applauds 👏 Mary"^^xsd:string .
<http://example.org/request_0#char=17,21>
        a nif:RFC5147String , nif:String , nif:Phrase ; nif:anchorOf "Mary"^^xsd:string ;
        nif:beginIndex "17"^^xsd:nonNegativeInteger ; nif:endIndex "21"^^xsd:nonNegativeInteger ;
        nif:referenceContext <http://example.org/request_0#char=0,21> .
"""


def nif(folder: Path) -> None:
    """A NIF document in each format."""
    from blink.serving.nif_document import FORMATS, TURTLE, read_nif, write_nif

    contexts = read_nif(NIF.encode(), TURTLE)
    write(folder / "document.ttl", NIF)
    for i, name in enumerate(FORMATS):
        try:
            content = write_nif([(context, []) for context in contexts], name)
        except Exception:
            continue
        write(folder / f"{i}.nif", content)


def _read_nif(folder: Path, source: Path) -> None:
    from blink.errors import DataError
    from blink.input_files import read_bytes
    from blink.serving.nif_document import FORMATS, read_nif

    names = list(FORMATS)
    name = names[int(source.stem)] if source.stem.isdigit() else "text/turtle"
    content = read_bytes(source)
    try:
        print(len(read_nif(content, name)))
    except DataError as error:  # an answer of JSON
        raise DataError(json.dumps({"error": str(error)})) from error


KINDS = (
    Kind("catalogue", catalogues, (_build_from, _build_skipping), weight=3),
    Kind("mentions", mention_files, (_read_mentions,), weight=3),
    Kind(
        "mentions-converted",
        mention_files,
        tuple(f"blink convert {{file}} --to {tool} --out {{}}/out" for tool in ("label-studio", "doccano", "elevant")),
    ),
    Kind(
        "label-studio",
        annotations,
        ("blink convert {}/label-studio.json --from label-studio --out {}/out",),
        ("label-studio.json",),
    ),
    Kind("doccano", annotations, ("blink convert {}/doccano.jsonl --from doccano --out {}/out",), ("doccano.jsonl",)),
    Kind("elevant", annotations, ("blink convert {}/elevant.jsonl --from elevant --out {}/out",), ("elevant.jsonl",)),
    Kind("links", annotations, ("blink convert {}/links.jsonl --to elevant --out {}/out",), ("links.jsonl",)),
    Kind(
        "compare",
        comparisons,
        ("blink compare {}/a.jsonl {}/b.jsonl --json -", "blink compare {}/a.jsonl {}/b.jsonl --gold {}/gold.jsonl"),
    ),
    Kind(
        "records", records, (_link_records("links.jsonl"), _link_records("links.parquet"), _link_records("links.csv")), weight=2
    ),
    Kind("texts", records, (_read_texts,)),
    Kind("resolve", resolving, (_resolve,), ("records.*", "kb/*"), weight=2),
    Kind("wikidata", wikidata, ("blink kb from-wikidata {file} --out {}/out --workers 1",), weight=2),
    Kind(
        "wikipedia",
        wikipedia,
        ("blink kb from-wikipedia {file} --out {}/out --workers 1 --page-props {}/props.sql",),
        ("*.xml", "*.bz2", "gz.gz", "zst.zst"),
        weight=2,
    ),
    Kind(
        "page-props",
        wikipedia,
        ("blink kb from-wikipedia {}/dump.xml --out {}/out --workers 1 --page-props {}/props.sql",),
        ("props.sql",),
    ),
    Kind(
        "cluster",
        cluster,
        (
            "blink slurm settings --settings {}/site.ini",
            "blink slurm settings --settings {}/cluster.ini",
            "blink slurm link {}/texts.txt --out {}/l.jsonl --settings {}/site.ini --dry-run",
        ),
    ),
    Kind("server-files", tokens, (_read_server_files,), ("corrections.jsonl",), weight=0.5),
    Kind("nif", nif, (_read_nif,)),
)
"""Files that people and other programs write: by design, a change of what they say changes the result."""
