"""Files of an exported encoder, and the arrays in them; nothing here needs PyTorch or ONNX Runtime."""

from __future__ import annotations

GRAPHS = {"fp32": "context.onnx", "int8": "context.int8.onnx"}
"""Graph of the context encoder by precision: ``embeddings`` (batch, seq, width) float32 and ``mask`` (batch, seq) bool, true at
real tokens, to ``hidden`` (batch, seq, hidden) and, with a mention head, ``token_scores`` (batch, seq, 3). Weights are in a
file of the same name that ends in ``.bin``, which ONNX Runtime maps."""
WORDS_FILE = "words.npy"
"""Word embeddings, (vocabulary, width) float32, to be mapped: a text needs a few rows."""
HEADS_FILE = "heads.npz"
"""What is computed outside the graph: `CASE`, `LOG_SCALE` and `LAYER`, each where the model has it."""
SETTINGS_FILE = "backend.json"
CASE = "case"
"""Rows that are added to word embeddings for the letter case. *Shape:* (classes, width), float32."""
LOG_SCALE = "log_scale"
"""Logarithm of the length of mention vectors of a cosine model. *Shape:* (), float32."""
LAYER = "aggregator.{}.{}"
"""``weight`` (out, in) and ``bias`` (out,) of each linear layer of the aggregator, in order, with ReLU between two."""
CANDIDATE_GRAPH = "candidate.onnx"
"""Graph of the candidate encoder: ``embeddings`` and ``mask`` to ``vectors`` (batch, entity_size), pooled, of unit length in a
cosine model."""
CANDIDATE_WORDS_FILE = "candidate-words.npy"
CANDIDATE_SETTINGS_FILE = "candidate.json"
"""Fingerprint of the candidate encoder, ``entity_size``, ``positions``, and the file of its word embeddings (``words``)."""
