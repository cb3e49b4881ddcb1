"""The flags of ``main_dense_all_ents.py``: the union of three releases of the original.

Releases are named by a letter: J (July 2020), R (August 2020, the one the published README describes) and E (the later
package ``elq``); N marks what is new here.
"""

from __future__ import annotations

from blink.compat.flags import Flag, FlagTable, count, number, probability

NO_EFFECT = "accepted, without effect"
FINAL_THRESHOLDING = {
    "joint": "joint",
    "joint_0": "joint",
    "top_joint_by_mention": "top_joint_by_mention",
    "top_entity_by_mention": "best_entity_by_mention",
}
"""Value of J's and R's flag -> mode; there the two last crash, and mean the best entity of every mention."""
THRESHOLD_TYPES = {
    "joint": "joint",
    "joint_0": "joint",
    "top_entity_by_mention": "top_entity_by_mention",
    "thresholded_entity_by_mention": "thresholded_entity_by_mention",
}
"""Value of E's flag -> mode."""

JOINT, GOLD, SINGLE = "joint", "gold", "single"
DETECTORS = {
    "joint": JOINT,
    "joint_all_ents": JOINT,
    "joint_all_ents_pretokenized": JOINT,
    "none": GOLD,
    "single": SINGLE,
}
"""Value of ``-n`` -> where mentions come from."""
OTHER_DETECTORS = ("flair", "ngram", "qa_classifier")
"""Values of ``-n`` that need programs or files which the original never came with."""
INDEX_KINDS = ("hnsw", "flat", "ivfflat", "none")

FLAGS = (
    Flag(("--interactive", "-i"), "JRE", "type texts and see their links", None),
    Flag(("--test_mentions",), "JRE", "mention file to link: JSON lines, labelled or not"),
    Flag(("--save_preds_dir",), "JRE", "folder for the predictions; without it, those of unlabelled rows are printed"),
    Flag(("--do_ner", "-n"), "JR", "where mentions come from: joint (also joint_all_ents) lets the model find them, "
         "joint_all_ents_pretokenized insists on the tokens stored in the file, none takes the gold mentions, "
         "single takes the whole text as one  [joint]", choices=(*DETECTORS, *OTHER_DETECTORS)),
    Flag(("--threshold",), "RE", "keep links whose joint log-score is above this; also -inf  [-2.9 for files with "
         "--mention_classifier_threshold or joint_0, else -4.5; the starter: a probability of its own]", number),
    Flag(("--mention_classifier_threshold",), "J", "keep mentions whose probability is above this", probability),
    Flag(("--mention_threshold",), "E", "keep mentions whose raw score is above this; for the modes by mention", number),
    Flag(("--final_thresholding",), "JR", "how links are decoded, J's names: the modes by mention emit the best entity of "
         "every mention, each entity once", choices=tuple(FINAL_THRESHOLDING)),
    Flag(("--threshold_type",), "E", "how links are decoded, E's names: top_entity_by_mention keeps overlaps; "
         "thresholded_entity_by_mention also needs an inner product above --threshold  [joint]",
         choices=tuple(THRESHOLD_TYPES)),
    Flag(("--top_k", "--num_cand_mentions"), "JRE", "most mentions per text", count, 50),
    Flag(("--num_cand_entities",), "E", "entities retrieved per mention; scores depend on it", count, 10),
    Flag(("--biencoder_model",), "JRE", "checkpoint (.bin), or a model folder of `blink train`  [models/elq_wiki_large.bin]"),
    Flag(("--biencoder_config",), "JRE", "its settings  [training_params.txt next to it or models/elq_large_params.txt]"),
    Flag(("--entity_catalogue",), "JRE", "catalogue  [models/entity.jsonl]"),
    Flag(("--entity_encoding",), "JRE", "entity vectors, for exact search  [models/all_entities_large.t7]"),
    Flag(("--faiss_index",), "RE", "kind of the index to search; none searches the vectors exactly", choices=INDEX_KINDS),
    Flag(("--index_path",), "RE", "FAISS index file; the vectors are then not read  [models/faiss_KIND_index.pkl]"),
    Flag(("--eval_batch_size",), "JRE", "texts that go through the model at once", count, 8),
    Flag(("--max_context_length",), "JRE", "input length in tokens  [the model's own]", count),
    Flag(("--use_cuda",), "JRE", "run on the GPU", None),
    Flag(("--precision",), "N", "number format of the encoder", default="auto", choices=("auto", "fp32", "bf16")),
    Flag(("--compat",), "N", "elq: predictions of a file exactly as release E makes them, oddities included",
         default="none", choices=("none", "elq")),
    Flag(("--qa_data", "-q"), "JR", "makes it no error that there is nothing to do", None),
    Flag(("--test_entities",), "JRE", NO_EFFECT),
    Flag(("--entity_token_ids", "--cand_token_ids_path"), "JRE", NO_EFFECT),
    Flag(("--output_path",), "JRE", NO_EFFECT + ": messages go to standard error"),
    Flag(("--debug", "-d"), "JR", NO_EFFECT, None),
    Flag(("--debug_biencoder", "-db"), "JRE", NO_EFFECT, None),
    Flag(("--get_predictions", "-p"), "JRE", NO_EFFECT, None),
    Flag(("--eval_main_entity",), "JR", NO_EFFECT, None),
    Flag(("--fast",), "J", NO_EFFECT, None),
    Flag(("--no_logger",), "E", NO_EFFECT, None),
)  # fmt: skip
"""Every flag of every release."""

SCRIPT = FlagTable("main_dense_all_ents.py", "Link entities with the original's files and flags.", FLAGS)
