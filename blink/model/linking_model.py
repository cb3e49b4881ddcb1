"""What linking needs of a model, whatever runs its encoder, and how it is opened."""

from __future__ import annotations

import importlib.util
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from blink.errors import CheckpointError, SettingsError, first_line
from blink.machine import multiplies_bf16
from blink.model.backends.exported import exported, stored_config, unexportable
from blink.model.backends.protocol import Backend
from blink.model.config import ModelConfig
from blink.model.folder import is_original, is_plain_encoder, require_model
from blink.model.reranker import RerankerNetwork
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
    """

    config: ModelConfig
    tokenizer: Tokenizer
    backend: Backend
    reranker: RerankerNetwork | None = None
    bi_encoder: BiEncoder | None = None

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
        return cls(model.config, model.tokenizer, backend, model.reranker, backend.model)

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
        bars: Bars = no_bars,
    ) -> LinkingModel:
        """Open a model.

        Args:
            path: see `blink.model.loading.load_model`.
            backend: one of `BACKENDS`, see `resolve_backend`.
            precision: ``auto``, ``fp32``, ``bf16`` or ``int8``.
            device: where the model runs.
            bars: for the export of the encoder, once.

        Raises:
            MissingFileError: there is nothing of that name.
            CheckpointError: it is damaged.
            SettingsError: the backend cannot do what is requested.
        """
        folder = require_model(path)
        if resolve_backend(folder, backend, precision, device) == "onnx":
            try:
                return cls._from_export(folder, "fp32" if precision == "auto" else precision, bars)
            except (SettingsError, OSError) as error:  # it cannot be exported, or not be written
                if "onnx" in (backend, os.environ.get(BACKEND_VARIABLE)) or precision == "int8":
                    raise
                logger.warning("%s runs with PyTorch, which starts slowly: %s", path, first_line(error))
        from blink.model.loading import load_model

        return cls.of(load_model(path), precision, device)

    @classmethod
    def _from_export(cls, path: Path, precision: str, bars: Bars) -> LinkingModel:
        from blink.model.backends.onnx_backend import OnnxBackend

        int8 = precision == "int8"
        export = exported(path, bars, int8=int8)
        try:
            backend = OnnxBackend(export, precision)
        except CheckpointError:
            export = exported(path, bars, again=True, int8=int8)
            backend = OnnxBackend(export, precision)
        config = stored_config(path, export)
        plain = is_plain_encoder(path)
        tokenizer = Tokenizer.from_pretrained(export if is_original(path) else config.base or path)
        tokenizer.configure(config)
        return cls(config, tokenizer, backend, None if plain else RerankerNetwork.load(path))


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


def backend_for_bulk(backend: str, precision: str) -> str:
    """The backend for many texts: ``auto`` is PyTorch where the processor multiplies bfloat16 natively, which outweighs its
    start.
    """
    return (
        "torch"
        if (backend, precision) == ("auto", "auto") and BACKEND_VARIABLE not in os.environ and multiplies_bf16()
        else backend
    )


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
    import torch

    return torch.cuda.is_available()


_GPU_DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd", r"C:\Windows\System32\nvcuda.dll")
"""Files of drivers that PyTorch's ``cuda`` devices need: Linux, the Windows Subsystem for Linux, AMD, Windows."""
