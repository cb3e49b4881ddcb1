"""A linker in a folder: its model, its knowledge base, its prior and its options."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from blink.checksums import CHECKSUMS_FILE, Checksums, read_checksums, require_whole
from blink.data.prior_file import NO_PRIOR, Prior, write_prior
from blink.errors import DataError, SettingsError
from blink.files import read_json, write_json
from blink.hub.names import is_hub_name, local_folder
from blink.hub.publishing import Publication
from blink.kb.publishing import base_publication
from blink.linking.stages import LinkerOptions
from blink.model.linking_model import LinkingModel
from blink.model.publishing import model_publication

if TYPE_CHECKING:
    from blink.kb.where import Where
    from blink.linking.linker import Linker
    from blink.model.biencoder import BiEncoder

LINKER_FILE, PRIOR_FILE = "linker.json", "prior.safetensors"
MODEL_FOLDER, KB_FOLDER = "model", "kb"
FORMAT = 1
_REMEDY = "copy the folder of the linker again"
_OF_MACHINE = ("prior", "precision", "device", "backend")
"""Options that are not stored: the prior has a file of its own, and the others depend on where the linker runs."""


@dataclass(frozen=True)
class Bundle:
    """The folder of a linker.

    Attributes:
        model: folder of its model.
        kb: folder of its knowledge base.
        prior: file of its prior; None for none.
        options: of the linker.
    """

    model: Path
    kb: Path
    prior: Path | None
    options: Mapping[str, Any]


def bundle_of(name: str | Path, *, whole: bool = False) -> Bundle | None:
    """The linker in a folder, or of a name on the hub; None where there is no linker, but perhaps a model.

    Args:
        name: of it.
        whole: compare all bytes of its prior with their checksum.

    Raises:
        DataError: the folder is of another version, or its options or prior are damaged.
        MissingFileError: its prior is gone.
        BlinkError: the hub has nothing of that name, or cannot be reached.
    """
    folder = local_folder(name) if is_hub_name(name) else Path(name)
    path = folder / LINKER_FILE
    if not path.is_file():
        return None
    if (stored := read_checksums(folder, _REMEDY)) is not None:
        require_whole(folder, stored.files, remedy=_REMEDY, whole=whole)
    values, known = read_json(path), {f.name for f in fields(LinkerOptions)} - set(_OF_MACHINE)
    options = values.get("options") if isinstance(values, dict) and values.get("format") == FORMAT else None
    if not isinstance(options, dict) or not options.keys() <= known:
        raise DataError(f"{path} is no linker of this version; save it again with linker.save_pretrained")
    prior = folder / PRIOR_FILE
    return Bundle(folder / MODEL_FOLDER, folder / KB_FOLDER, prior if prior.is_file() else None, options)


@contextlib.contextmanager
def linker_publication(linker: Linker, model: object, replaced: Collection[str]) -> Iterator[Publication]:
    """The files of a linker; they exist inside the block.

    Args:
        linker: the linker.
        model: folder of its model, or the model.
        replaced: names of its stages that are not those of the model.

    Raises:
        SettingsError: its model or knowledge base cannot be published, or stages were replaced.
        DataError: its knowledge base is in memory alone.
    """
    if replaced:
        raise SettingsError(f"the stage {min(replaced)!r} was replaced by an object, which no file holds; leave stages out")
    if isinstance(model, LinkingModel):
        model = model.bi_encoder
    if model is None:
        raise SettingsError("the model of this linker is in memory, and not as it was trained; open the linker by its folder")
    with (
        tempfile.TemporaryDirectory(prefix="blink-linker-") as temporary,
        model_publication(cast("BiEncoder | Path", model), _load) as of_model,
        base_publication(linker.kb) as of_base,
    ):
        own = _own_files(linker.options, Path(temporary))
        files = of_model.inside(MODEL_FOLDER) | of_base.inside(KB_FOLDER) | own
        facts = {f"model: {key}": value for key, value in of_model.facts.items()}
        facts |= {f"knowledge base: {key}": value for key, value in of_base.facts.items()}
        facts |= {
            "mode": linker.mode,
            "threshold": f"{linker.thresholds.score:g}",
            "prior": "yes" if PRIOR_FILE in own else "no",
        }
        yield Publication("linker", files, facts)


def _load(folder: Path) -> BiEncoder:
    from blink.model.loading import load_model  # it imports PyTorch

    return load_model(folder, candidate=True)


def _own_files(options: LinkerOptions, folder: Path) -> dict[str, Path]:
    """The options that differ from the defaults, the prior, and the checksums of both."""
    stored = {f.name: getattr(options, f.name) for f in fields(options) if f.name not in _OF_MACHINE}
    changed = {name: value for name, value in stored.items() if value != getattr(LinkerOptions(), name)}
    changed |= {"where": _plain(changed["where"])} if changed.get("where") is not None else {}
    write_json(folder / LINKER_FILE, {"format": FORMAT, "options": json.loads(json.dumps(changed, default=list))})
    if isinstance(options.prior, Prior):
        write_prior(folder / PRIOR_FILE, options.prior)
    elif options.prior not in (None, NO_PRIOR):
        shutil.copyfile(options.prior, folder / PRIOR_FILE)
    names = [name for name in (LINKER_FILE, PRIOR_FILE) if (folder / name).is_file()]
    Checksums.of(folder, names).write(folder)
    return {name: folder / name for name in (*names, CHECKSUMS_FILE)}


def _plain(where: Where) -> list[dict[str, list[str]]]:
    """Conditions as `Where.parse` reads them."""
    return [{f"{c.name}{'!' if c.negated else ''}": sorted(c.values)} for c in where.conditions]
