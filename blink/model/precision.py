"""Choice of device and precision."""

from __future__ import annotations

import logging

import torch

from blink.errors import SettingsError

logger = logging.getLogger(__name__)

PRECISIONS = ("auto", "fp32", "bf16")
SLOW_BF16 = "precision bf16 takes about three times as long as fp32 here: this %s has no bfloat16"
"""Warning for a device without it, a template of the device's type."""


def resolve_device(device: str | torch.device | None = None) -> torch.device:
    """The device of that name; by default a GPU where there is one.

    Raises:
        SettingsError: there is no such device, or none of that kind here.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        if resolved.type == "meta":  # holds shapes, computes nothing
            raise RuntimeError
    except RuntimeError as error:
        raise SettingsError(f"device is {str(device)!r}; give cpu, cuda or cuda:N, or leave it out") from error
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise SettingsError(
            "device is 'cuda', but torch sees no GPU here; leave --device (or --use_cuda) out to run on the CPU"
        )
    try:
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        raise SettingsError(f"device {str(device)!r} is not to be had here; give another, or leave it out") from error
    return resolved


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """The encoder's dtype: ``auto`` is bf16 where the hardware multiplies it natively, else fp32.

    Raises:
        SettingsError: the name is not one of `PRECISIONS`.
    """
    if precision not in PRECISIONS:
        raise SettingsError(f"precision is {precision!r}; allowed are {', '.join(PRECISIONS)}")
    if precision == "auto":
        return torch.bfloat16 if has_bf16(device) else torch.float32
    if precision == "bf16" and not has_bf16(device):
        logger.warning(SLOW_BF16, device.type)
    return torch.bfloat16 if precision == "bf16" else torch.float32


def has_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 natively."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # torch has no public question for this; a version without these answers "no".
    checks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(check is not None and check() for check in checks)
