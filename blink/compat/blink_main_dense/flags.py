"""The flags of ``blink/main_dense.py``, which are the attributes of ``args`` too."""

from __future__ import annotations

from blink.compat.flags import Flag, FlagTable, count

NO_EFFECT = "accepted, without effect"
INDEX_KINDS = ("flat", "hnsw", "none")

FLAGS = (
    Flag(("--interactive", "-i"), "B", "refused: the model finds no mentions", None),
    Flag(("--test_mentions",), "B", "labelled mentions: JSON lines with context_left, mention, context_right, label_id"),
    Flag(("--test_entities",), "B", "file that leads from the labels to titles, for labels that are no Wikipedia page ids"),
    Flag(("--biencoder_model",), "B", "checkpoint of the bi-encoder", default="models/biencoder_wiki_large.bin"),
    Flag(("--biencoder_config",), "B", "its settings", default="models/biencoder_wiki_large.json"),
    Flag(("--entity_catalogue",), "B", "catalogue", default="models/entity.jsonl"),
    Flag(("--entity_encoding",), "B", "entity vectors, for exact search", default="models/all_entities_large.t7"),
    Flag(("--crossencoder_model",), "B", "checkpoint of the cross-encoder", default="models/crossencoder_wiki_large.bin"),
    Flag(("--crossencoder_config",), "B", "its settings", default="models/crossencoder_wiki_large.json"),
    Flag(("--top_k",), "B", "candidates retrieved per mention", count, 10),
    Flag(("--fast",), "B", "leave out the cross-encoder", None),
    Flag(("--faiss_index",), "B", "kind of the index to search instead of the vectors", choices=INDEX_KINDS),
    Flag(("--indexer_path", "--index_path"), "B", "file of that index"),
    Flag(("--output_path",), "B", NO_EFFECT),
    Flag(("--show_url",), "B", NO_EFFECT, None),
)  # fmt: skip

SCRIPT = FlagTable("main_dense.py", "Link given mentions with the original BLINK's files and flags.", FLAGS)
