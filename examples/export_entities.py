"""Exports the entities of a LUKE for the linker: vectors, biases and ids, in the layout of its prior.

=========================  ==============================================================================================
``entity_vectors.npy``     (rows, H) float32: vectors at the encoder's input, projected to its width
``entity_raw_vectors.npy`` (rows, D) float32: rows of the table, as used by the masked-entity head
``entity_biases.npy``      (rows,) float32: biases of that head, a log prior up to a constant
``entity_counts.npy``      (rows,) int64: links to the title, 0 if the model's folder has no counts
``entity_ids.txt``         one unique id per line: title, or Wikidata id
``entity_labels.tsv``      id, name, type, row: title and row of the model's table
``mention_transform.safetensors``  ``dense.weight``, ``dense.bias``, ``LayerNorm.weight``, ``LayerNorm.bias``
``unmatched.tsv``          titles without a Wikidata id, and titles whose id a more frequent title has
``meta.json``              settings of the export
``checksums.json``         size and hashes of all these
=========================  ==============================================================================================

The score of an entity for a masked mention with state h is ``raw . t + bias`` with ``t = LayerNorm(gelu(dense(h)))``: a dot
product, as in training, not a cosine.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blink.cells import safe_cell
from blink.errors import DataError, SettingsError
from blink.files import atomic_open, require_file, write_json
from blink.replacing import replacing
from examples.luke.options import Common
from examples.luke.reading import text_lines

if TYPE_CHECKING:
    import numpy as np

    from examples.luke.pretrained import PretrainedLuke

META_FILE = "meta.json"
FORMAT = 1
ROWS_AT_ONCE = 1 << 15
ARRAYS = {"raw": "entity_raw_vectors.npy", "biases": "entity_biases.npy", "counts": "entity_counts.npy"}
UNMATCHED_FILE = "unmatched.tsv"
TRANSFORM_FILE = "mention_transform.safetensors"
_MAP_REMEDY = "give a file with title<TAB>Wikidata id per line"


@click.command("export-entities")
@click.option("--model-file", metavar="MODEL", help="LUKE's archive, a folder of transformers, or a name.")
@click.option("--out", required=True, metavar="DIR", help="Folder for the files.")
@click.option("--id-map", metavar="FILE", help="title<TAB>Wikidata id per line; titles without an id are skipped and listed.")
@click.option("--redirects-file", metavar="FILE", help="source<TAB>target per line: titles renamed since the model's dump.")
@click.pass_obj
def command(common: Common, /, model_file: str | None, out: str, id_map: str | None, redirects_file: str | None) -> None:
    """Write the vectors and biases of a model's entities for the linker: .npy tables, a file of ids, and meta.json.

    \b
    Example:
      python -m examples.cli export-entities --model-file luke_large_500k.tar.gz --out entities --id-map enwiki_ids.tsv
    """
    from blink.apps.common import bar, say
    from examples.luke.pretrained import load_pretrained

    source = model_file or common.model_file
    if source is None:
        raise SettingsError("no model was named; give --model-file: LUKE's archive, a folder of transformers, or a name")
    ids = read_id_map(id_map) if id_map else None
    redirects = read_id_map(redirects_file, "source<TAB>target") if redirects_file else {}
    model = load_pretrained(source, common.tokenizer, say)
    choice = select_rows(model.entities, ids, redirects)
    with bar("writing entities", len(choice.rows), "entity") as progress:
        write_entities(Path(out), model, choice, source, progress.advance)
    omitted = f"; {len(choice.unmatched)} titles are left out, see {UNMATCHED_FILE}" if choice.unmatched else ""
    say(f"{out}: {len(choice.rows)} entities of width {model.model.config.hidden_size}{omitted}")


@dataclass(frozen=True)
class Rows:
    """Rows of the entity table to export, and their ids.

    Attributes:
        rows: in the order of the table.
        ids: id of each row.
        titles: title of each row.
        unmatched: title and reason of skipped rows.
    """

    rows: Sequence[int]
    ids: Sequence[str]
    titles: Sequence[str]
    unmatched: Sequence[tuple[str, str]]


def read_id_map(path: str, form: str = "title<TAB>Wikidata id") -> dict[str, str]:
    """Read pairs, one per line; underscores in titles become spaces.

    Raises:
        MissingFileError: there is no such file.
        DataError: a line has another form, or a title has two ids.
    """
    ids: dict[str, str] = {}
    for number, line in text_lines(require_file(path, _MAP_REMEDY)):
        title, tab, value = line.partition("\t")
        title, value = title.replace("_", " ").strip(), value.strip()
        if not tab or not title or not value or "\t" in value:
            raise DataError(f"{path}, line {number}: found {line[:60]!r}; expected {form}")
        if ids.setdefault(title, value) != value:
            raise DataError(f"{path}, line {number}: {title!r} is {ids[title]} and {value}; keep one of them")
    if not ids:
        raise DataError(f"{path} is empty; expected {form} a line")
    return ids


def select_rows(entities: Mapping[str, int], ids: Mapping[str, str] | None, redirects: Mapping[str, str]) -> Rows:
    """All rows except the special ones; with a map, those whose title, or its redirect target, has an id.

    Of titles with the same id, the first (the most frequent) is exported.

    Raises:
        DataError: no row is left.
    """
    from examples.luke.convert import SPECIAL_ENTITIES

    names: dict[int, list[str]] = {}
    for title, row in entities.items():
        if title.rpartition(":")[2] not in SPECIAL_ENTITIES:
            names.setdefault(row, []).append(title)
    if not names:
        raise DataError("the model has no entities but special ones, as lite models do; give a full one, such as luke-base")
    rows: dict[str, tuple[int, str]] = {}
    unmatched: list[tuple[str, str]] = []
    for row in sorted(names):
        title = names[row][0]
        key = title if ids is None else _id_of(names[row], ids, redirects)
        if key is None:
            unmatched.append((title, "no id"))
        elif key in rows:
            unmatched.append((title, f"{key} is {rows[key][1]}"))
        else:
            rows[key] = row, title
    if not rows:
        examples = ", ".join(repr(title) for title, _ in unmatched[:3])
        raise DataError(
            f"none of the model's titles ({examples} ...) is in the map; {_MAP_REMEDY}, with titles as in the vocabulary"
        )
    return Rows([row for row, _ in rows.values()], list(rows), [title for _, title in rows.values()], unmatched)


def _id_of(titles: Sequence[str], ids: Mapping[str, str], redirects: Mapping[str, str]) -> str | None:
    both = [name for title in titles for name in (title, redirects.get(title))]
    return next((ids[name] for name in both if name is not None and name in ids), None)


def write_entities(out: Path, pretrained: PretrainedLuke, choice: Rows, source: str, advance: Any = lambda count: None) -> None:
    """Write the files, which replace those of an earlier export together."""
    with replacing(out, retained=()) as work:
        _write_files(work, pretrained, choice, source, advance)


def _write_files(work: Path, pretrained: PretrainedLuke, choice: Rows, source: str, advance: Any) -> None:
    import numpy as np
    import torch
    from safetensors.torch import save

    from blink.data.arrays import save_array
    from examples.luke.convert import link_counts

    model, rows = pretrained.model, torch.tensor(choice.rows)
    embeddings = model.luke.entity_embeddings
    table = embeddings.entity_embeddings.weight.detach()
    project = getattr(embeddings, "entity_embedding_dense", torch.nn.Identity())
    norms: list[float] = []

    def projected() -> Iterator[np.ndarray]:
        for chunk in rows.split(ROWS_AT_ONCE):
            with torch.no_grad():
                vectors = project(table[chunk])
            norms.extend(vectors.norm(dim=1).tolist())
            advance(len(chunk))
            yield vectors.numpy()

    width = model.config.hidden_size
    _save_chunks(work / "entity_vectors.npy", (len(rows), width), projected())
    raw = (table[chunk].numpy() for chunk in rows.split(ROWS_AT_ONCE))
    _save_chunks(work / ARRAYS["raw"], (len(rows), table.shape[1]), raw)
    counts = link_counts(Path(pretrained.folder))
    save_array(work / ARRAYS["biases"], model.entity_predictions.bias.detach()[rows].float().numpy())
    save_array(work / ARRAYS["counts"], np.array([counts.get(title, 0) for title in choice.titles], dtype=np.int64))
    with atomic_open(work / "entity_ids.txt") as f:
        f.writelines(f"{name}\n" for name in choice.ids)
    _write_tables(work, choice)
    with atomic_open(work / TRANSFORM_FILE, "wb") as f:
        f.write(save({k: v.detach().contiguous() for k, v in model.entity_predictions.transform.state_dict().items()}))
    spread = torch.tensor(norms)
    meta = {
        "format": FORMAT, "kind": "entity", "model": "luke", "source": source, "dim": width, "raw_dim": table.shape[1],
        "rows": len(rows), "layout": "real", "mean_norm": spread.mean().item(), "std_norm": spread.std(correction=0).item(),
        "arrays": ARRAYS, "mention_transform": TRANSFORM_FILE, "activation": model.config.hidden_act,
        "layer_norm_eps": model.config.layer_norm_eps, "unmatched": len(choice.unmatched),
        "ids": "wikidata" if choice.ids != choice.titles else "title",
    }  # fmt: skip
    write_json(work / META_FILE, meta)


def _save_chunks(path: Path, shape: tuple[int, int], chunks: Iterator[np.ndarray]) -> None:
    """Write a float32 array in chunks, as it may have gigabytes."""
    import numpy as np

    with atomic_open(path, "wb") as f:
        header = {"descr": np.dtype(np.float32).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_2_0(f, header)
        for chunk in chunks:
            f.write(np.ascontiguousarray(chunk, dtype=np.float32).tobytes())


def _write_tables(work: Path, choice: Rows) -> None:
    with atomic_open(work / "entity_labels.tsv") as f:
        labels = csv.writer(f, delimiter="\t", lineterminator="\n")
        labels.writerow(("id", "name", "type", "row"))
        labels.writerows(
            (safe_cell(i), safe_cell(t), "", r) for i, t, r in zip(choice.ids, choice.titles, choice.rows, strict=True)
        )
    with atomic_open(work / UNMATCHED_FILE) as f:
        unmatched_rows = csv.writer(f, delimiter="\t", lineterminator="\n")
        unmatched_rows.writerow(("title", "reason"))
        unmatched_rows.writerows(map(safe_cell, row) for row in choice.unmatched)
