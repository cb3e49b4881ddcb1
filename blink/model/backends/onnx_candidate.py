"""An exported candidate encoder: ONNX Runtime and NumPy, on a CPU, without PyTorch."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from blink.data.records import Entity
from blink.errors import CheckpointError
from blink.files import read_json
from blink.input_files import require_file
from blink.model.backends.layout import CANDIDATE_GRAPH, CANDIDATE_SETTINGS_FILE
from blink.model.backends.onnx_backend import DAMAGED, NUMPY_TYPES, n_threads, open_session
from blink.model.batches import TOKENS_PER_BATCH, batches_by_length
from blink.model.config import ModelConfig
from blink.model.tokenizer import Tokenizer, entity_texts, pad


class OnnxCandidateEncoder:
    """Runs an exported candidate encoder.

    Attributes:
        fingerprint: of the encoder, see `BiEncoder.candidate_fingerprint`.

    Args:
        folder: of the exported encoder, see `blink.model.backends.layout`.
        config: settings of the model.
        tokenizer: of the model.

    Raises:
        CheckpointError: a file is damaged, or missing.
    """

    def __init__(self, folder: Path, config: ModelConfig, tokenizer: Tokenizer) -> None:
        self._config, self._tokenizer = config, tokenizer
        try:
            settings = read_json(folder / CANDIDATE_SETTINGS_FILE)
            self.fingerprint = str(settings["fingerprint"])
            self._length = min(config.max_candidate_length, int(settings["positions"]))
            self._entity_size = int(settings["entity_size"])
            words = require_file(folder / settings["words"], "export the model again")
            self._words = np.asarray(np.load(words, mmap_mode="r", allow_pickle=False))
            self._session = open_session(folder / CANDIDATE_GRAPH, threads=1)
            session = self._session.get()
        except DAMAGED as error:
            raise CheckpointError(f"{folder} is damaged ({type(error).__name__}: {error}); remove it") from error
        self._mask_type = NUMPY_TYPES[next(i.type for i in session.get_inputs() if i.name == "mask")]

    def entity_texts(self, entity: Entity) -> tuple[str, str, str]:
        """All that `encode_entities` reads of an entity: title, aliases and description."""
        return entity_texts(entity, self._config.candidate_fields, self._length)

    def encode_entities(self, entities: Sequence[Entity], batch_size: int = 64) -> np.ndarray:
        """Encode entities, as `BiEncoder.encode_entities` does. *Shape:* (entities, entity_size), float32."""
        rows = self._tokenizer.entity_ids(entities, self._config.candidate_fields, self._length)
        session = self._session.get()
        vectors = np.empty((len(rows), self._entity_size), np.float32)

        def encode(batch: list[int]) -> None:
            ids, mask = pad([rows[i] for i in batch], self._tokenizer.pad_id)
            inputs = {"embeddings": self._words[ids], "mask": mask.astype(self._mask_type)}
            (vectors[batch],) = session.run(["vectors"], inputs)

        # A batch a core takes less time than a batch on all cores: its products are small.
        batches = batches_by_length([len(row) for row in rows], batch_size, TOKENS_PER_BATCH)
        if len(batches) == 1:
            encode(batches[0])
            return vectors
        with ThreadPoolExecutor(n_threads()) as pool:
            deque(pool.map(encode, batches), maxlen=0)
        return vectors
