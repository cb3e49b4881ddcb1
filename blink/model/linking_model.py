"""What linking needs of a model, whatever runs its encoder, and how it is opened."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from blink.data.records import Entity
from blink.errors import CheckpointError, SettingsError, first_line
from blink.extras import extras_for, install_command, is_installed
from blink.machine import multiplies_bf16
from blink.model.backends.exported import exported, stored_config, unexportable
from blink.model.backends.protocol import Backend
from blink.model.config import ModelConfig
from blink.model.entity_encoder import EntityEncoder
from blink.model.folder import is_original, is_plain_encoder, require_model
from blink.model.reranker import RerankerNetwork
from blink.model.stored_files import has_checksums, load_reranker, require_whole_model, without_checksums
from blink.model.tokenizer import Tokenizer
from blink.progress import Bars, no_bars

if TYPE_CHECKING:
    from blink.model.biencoder import BiEncoder

logger = logging.getLogger(__name__)

BACKENDS = ("auto", "torch", "onnx")
BACKEND_VARIABLE = "BLINK_BACKEND"
"""Variable of the environment that says which backend ``auto`` is."""


@dataclass(frozen=True)
class LinkingModel:
    """A model, ready to link.

    Attributes:
        config: its settings.
        tokenizer: of its texts.
        backend: runs its context encoder.
        reranker: scores candidates from their features, where one was fitted.
        bi_encoder: the model itself, where PyTorch runs it, in the precision that it runs in.
        encode_entities: its candidate encoder; None where it was not loaded with a model in memory.
    """

    config: ModelConfig
    tokenizer: Tokenizer
    backend: Backend
    reranker: RerankerNetwork | None = None
    bi_encoder: BiEncoder | None = None
    encode_entities: Callable[[Sequence[Entity]], np.ndarray] | None = None

    @property
    def entity_size(self) -> int:
        """Dimensions of mention and entity vectors."""
        return self.backend.entity_size

    def heads_digest(self) -> str:
        """Identifies the scores of the bi-encoder, see `BiEncoder.heads_digest`."""
        return self.backend.heads_digest

    @classmethod
    def of(cls, model: BiEncoder, precision: str = "auto", device: str | None = None) -> LinkingModel:
        """A model in memory, which PyTorch runs.

        Raises:
            SettingsError: it has no context encoder, or there is no such device or precision.
        """
        from blink.model.backends.torch_backend import TorchBackend

        backend = TorchBackend(model, precision, device)
        encode = None if model.candidate_encoder is None else model.encode_entities
        return cls(model.config, model.tokenizer, backend, model.reranker, backend.model, encode)

    @classmethod
    def ready(
        cls, model: BiEncoder | LinkingModel, backend: str = "auto", precision: str = "auto", device: str | None = None
    ) -> LinkingModel:
        """A model in memory, unless it is ready to link.

        Raises:
            SettingsError: as of `of`, or backend onnx is requested, which reads stored models alone.
        """
        if isinstance(model, LinkingModel):
            return model
        if backend == "onnx":
            raise SettingsError("a model in memory runs with PyTorch; give the folder of a stored one for backend onnx")
        return cls.of(model, precision, device)

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        backend: str = "auto",
        precision: str = "auto",
        device: str | None = None,
        verify: bool = False,
        bars: Bars = no_bars,
    ) -> LinkingModel:
        """Open a model.

        Args:
            path: see `blink.model.loading.load_model`.
            backend: one of `BACKENDS`, see `resolve_backend`.
            precision: ``auto``, ``fp32``, ``bf16`` or ``int8``.
            device: where the model runs.
            verify: compare all bytes of the model's files with their checksums, not samples of large files.
            bars: for the export of the encoder, once.

        Raises:
            MissingFileError: there is nothing of that name.
            CheckpointError: it is damaged, or was changed since it was stored.
            MismatchError: the encoder that it adapts was changed.
            SettingsError: the backend cannot do what is requested.
        """
        folder = require_model(path)
        require_whole_model(folder, whole=verify)
        if verify and not has_checksums(folder):
            logger.warning("%s", without_checksums(folder))
        if resolve_backend(folder, backend, precision, device) == "onnx":
            try:
                return cls._from_export(folder, "fp32" if precision == "auto" else precision, verify, bars)
            except (SettingsError, OSError) as error:  # it cannot be exported, or not be written
                if "onnx" in (backend, os.environ.get(BACKEND_VARIABLE)) or precision == "int8":
                    raise
                logger.warning("%s runs with PyTorch, which starts slowly: %s", path, first_line(error))
        with extras_for("models that PyTorch runs"):
            from blink.model.loading import load_model

        return replace(cls.of(load_model(path), precision, device), encode_entities=EntityEncoder(folder, "torch", device))

    @classmethod
    def _from_export(cls, path: Path, precision: str, verify: bool, bars: Bars) -> LinkingModel:
        from blink.model.backends.onnx_backend import OnnxBackend

        int8 = precision == "int8"
        export = exported(path, bars, int8=int8, verify=verify)
        try:
            backend = OnnxBackend(export, precision)
        except CheckpointError:
            export = exported(path, bars, again=True, int8=int8)
            backend = OnnxBackend(export, precision)
        config = stored_config(path, export)
        plain = is_plain_encoder(path)
        tokenizer = Tokenizer.from_pretrained(export if is_original(path) else config.base or path)
        tokenizer.configure(config)
        reranker = None if plain else load_reranker(path)
        return cls(config, tokenizer, backend, reranker, encode_entities=EntityEncoder(path, bars=bars))


def resolve_backend(path: Path, backend: str = "auto", precision: str = "auto", device: str | None = None) -> str:
    """What runs the encoder of a model: ``torch`` or ``onnx``.

    ``auto`` is ``onnx`` on a CPU, for encoders that can be exported; PyTorch is then never imported. It is ``torch`` where
    there is a GPU, for bfloat16, and where the variable `BACKEND_VARIABLE` says so.

    Raises:
        SettingsError: there is no such backend, or it cannot do what is requested.
    """
    if backend not in BACKENDS:
        raise SettingsError(f"the backend is {backend!r}; allowed are {', '.join(BACKENDS)}")
    if backend == "auto":
        backend = os.environ.get(BACKEND_VARIABLE) or "auto"
        if backend not in BACKENDS:
            raise SettingsError(f"{BACKEND_VARIABLE} is {backend!r}; allowed are {', '.join(BACKENDS)}")
    if backend == "torch":
        return backend
    problem = _without_onnx(precision, device) or unexportable(path)
    if problem and (backend == "onnx" or precision == "int8"):
        raise SettingsError(f"{path} cannot run with ONNX Runtime: {problem}; leave --backend out, or give --backend torch")
    if backend == "auto" and precision != "int8" and device is None and sees_gpu():
        return "torch"
    return "torch" if problem else "onnx"


def require_backend(path: Path, backend: str = "auto", precision: str = "auto", device: str | None = None) -> None:
    """Check that what runs the encoder of a model is installed; arguments as of `resolve_backend`.

    Raises:
        SettingsError: it is not, or `resolve_backend` raises it.
    """
    if resolve_backend(path, backend, precision, device) == "torch" and not is_installed("torch"):
        raise SettingsError(f"models that PyTorch runs need an extra; install it: {install_command('torch')}")


def backend_for_bulk(backend: str, precision: str) -> str:
    """The backend for many texts: ``auto`` is PyTorch where the processor multiplies bfloat16 natively, which outweighs its
    start.
    """
    is_free = (backend, precision) == ("auto", "auto") and BACKEND_VARIABLE not in os.environ
    return "torch" if is_free and multiplies_bf16() and is_installed("torch") else backend


def _without_onnx(precision: str, device: str | None) -> str | None:
    """Why ONNX Runtime cannot do what is requested; None if it can."""
    if device is not None and device != "cpu":
        return f"device is {device!r}, and it runs on cpu"
    if precision == "bf16":
        return "precision is 'bf16', and it has fp32 and int8"
    return None if importlib.util.find_spec("onnxruntime") else "the package onnxruntime is not installed"


def sees_gpu() -> bool:
    """Whether PyTorch sees a GPU; it is imported only where the system has a driver of one."""
    if not any(Path(driver).exists() for driver in _GPU_DRIVERS) or os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    if not is_installed("torch"):
        return False
    import torch

    return torch.cuda.is_available()


_GPU_DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd", r"C:\Windows\System32\nvcuda.dll")
"""Files of drivers that PyTorch's ``cuda`` devices need: Linux, the Windows Subsystem for Linux, AMD, Windows."""
