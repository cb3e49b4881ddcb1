"""A small model with a reranker and its knowledge base, in folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import toys
from shell_toys import weighing

from blink.linking.linker import Linker

OPTIONS: dict[str, Any] = {"threshold": 0.01, "precision": "fp32", "device": "cpu", "entities": 5}


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``model`` and ``kb``."""
    folder = tmp_path_factory.mktemp("pipelines")
    model = toys.model(6)
    model.reranker = weighing(-3.0, alias=3.0, dice=4.0, logit=0.02)
    model.save_pretrained(folder / "model")
    toys.knowledge_base(folder / "kb", model, toys.rows(20))
    return folder


@pytest.fixture(scope="session")
def linker(folders: Path) -> Linker:
    return Linker.from_pretrained(folders / "model", folders / "kb", **OPTIONS)
