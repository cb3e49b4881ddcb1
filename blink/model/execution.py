"""Under which conditions figures were computed: precision, backend, device and processor.

Figures of accuracy depend on them: sums in bfloat16 differ from those in float32 by more than a link or two, and 8-bit products
by more still. Whoever compares two figures has to know that these are the same.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from blink.machine import INSTRUCTION_SETS, cores, gpus, processor
from blink.model.backends.protocol import Backend

BACKEND_NAMES = {"onnx": "ONNX Runtime", "torch": "PyTorch"}
EXECUTION_KEY = "execution"
"""Key of stored figures, and of rows, that says how the model ran."""
UNKNOWN = "precision and processor are not known"


@dataclass(frozen=True)
class Execution:
    """How an encoder ran.

    Attributes:
        precision: ``fp32``, ``bf16``, ``fp16`` or ``int8``.
        backend: ``onnx`` or ``torch``.
        device: kind of device: ``cpu`` or ``cuda``.
        processor: name of the CPU, or of the GPU.
        features: instruction sets of the CPU that precision depends on; none for a GPU.
        cores: of the CPU that the process may use.
    """

    precision: str
    backend: str
    device: str
    processor: str
    features: tuple[str, ...] = ()
    cores: int = 0

    @classmethod
    def here(cls, precision: str, backend: str, device: str) -> Execution:
        """On this machine."""
        if device.startswith("cuda"):
            return cls(precision, backend, "cuda", next(iter(gpus()), "unknown GPU"), (), cores())
        name, flags = processor()
        named = name or platform.processor() or platform.machine()
        return cls(precision, backend, device, named, tuple(f for f in INSTRUCTION_SETS if f in flags), cores())

    @classmethod
    def of(cls, backend: Backend) -> Execution:
        """Of a backend, on this machine."""
        return cls.here(backend.precision, backend.name, backend.device)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Execution:
        """Read what `to_json` returns."""
        return cls(**{**values, "features": tuple(values.get("features", ()))})

    def to_json(self) -> dict[str, Any]:
        """The JSON object."""
        return {
            "precision": self.precision,
            "backend": self.backend,
            "device": self.device,
            "processor": self.processor,
            "features": list(self.features),
            "cores": self.cores,
        }

    def __str__(self) -> str:
        """Such as ``fp32, ONNX Runtime, cpu: AMD EPYC (avx2, avx512f), 2 cores``."""
        features = f" ({', '.join(self.features)})" if self.features else ""
        count = f", {self.cores} core{'s' * (self.cores != 1)}" if self.device == "cpu" and self.cores else ""
        backend = BACKEND_NAMES.get(self.backend, self.backend)
        return f"{self.precision}, {backend}, {self.device}: {self.processor}{features}{count}"


def execution_line(execution: Execution | None) -> str:
    """A line of a report about figures."""
    return f"computed in {execution}" if execution is not None else UNKNOWN
