"""A toy cluster to run the original's shell scripts on: data, models, runs, settings."""

from __future__ import annotations

import json
import os
from pathlib import Path

from toys import base_folder, model

from tests.compat.originals import Reference, Shape
from tests.compat.script_lines import LARGE

QUESTIONS = (
    "webqsp_all_ents/train", "webqsp_all_ents/valid", "wiki_all_ents/train", "wiki_all_ents/valid", "WebQSP_EL/tokenized/test",
    "graphquestions_EL/tokenized/test", "nq/tokenized/dev",
)  # fmt: skip


class ToyCluster:
    """Data, models and runs of toy sizes below a folder whose name has a space, with the settings file that says so.

    Runs that the lines go on from: epochs 15 and 22 as the original writes them, 3 and 10 as `blink train` does.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "a cluster"
        self.models, self.data, self.experiments = (self.folder / name for name in ("models", "data", "experiments"))
        self._write_models()
        for name in QUESTIONS:
            self._write_questions(self.data / f"{name}.jsonl", labelled=not name.startswith("nq"))
        self._write_runs()
        self.settings = self.folder / "cluster.ini"
        self.settings.write_text(
            f"[paths]\ndata = {self.data}\nmodels = {self.models}\nexperiments = {self.experiments}\n"
            f"predictions = {self.folder / 'saved_preds'}\n"
            f"[sizes]\nlarge = {self.folder / 'large'}\nbase = {self.folder / 'base'}\n"
            "[slurm]\nshard_rows = 9\n"
            "[flags]\ntrain = --num_train_epochs 2 --precision fp32\nencode = --precision fp32\neval = --precision fp32\n"
        )

    @property
    def environment(self) -> dict[str, str]:
        """Of a process that is to use it."""
        return {**os.environ, "BLINK_CLUSTER": str(self.settings), "OMP_NUM_THREADS": "1"}

    def _write_models(self) -> None:
        self.reference = Reference(Shape("toy"), self.models).write()
        (self.models / "all_entities.t7").rename(self.models / "all_entities_large.t7")
        (self.models / "pytorch_model.bin").rename(self.models / "biencoder_wiki_large.bin")
        (self.models / "training_params.txt").unlink()
        (self.models / "biencoder_wiki_large.json").write_text(json.dumps(self.reference.parameters()))
        base_folder(self.folder / "large", 5)
        base_folder(self.folder / "base", 6)

    def _write_questions(self, path: Path, labelled: bool) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = []
        for row, entity in enumerate(self.reference.entities):
            title = entity["title"]
            before, ids = self.reference.token_ids("where is"), self.reference.token_ids(title)
            line = {"id": str(row), "text": f"where is {title}?"}
            if labelled:
                line |= {
                    "mentions": [[9, 9 + len(title)]], "label_id": [row], "entity": [title],
                    "tokenized_text_ids": before + ids + self.reference.token_ids("?"),
                    "tokenized_mention_idxs": [[len(before), len(before) + len(ids)]],
                }  # fmt: skip
            lines.append(json.dumps(line))
        path.write_text("\n".join(lines) + "\n")

    def _write_runs(self) -> None:
        run = self.experiments / "wiki_all_ents" / LARGE
        for epoch in (15, 22):
            Reference(Shape("toy"), run / f"epoch_{epoch}").write()
            (run / f"epoch_{epoch}" / "training_params.txt").replace(run / "training_params.txt")
            for name in ("all_entities.t7", "entity.jsonl"):
                (run / f"epoch_{epoch}" / name).unlink()
        for size, epoch in (("base", 10), ("large", 3)):
            name = f"all_mention_biencoder_all_avg_true_128_false_false_bert_{size}_qa_linear"
            model(epoch, max_context_length=128).save_pretrained(self.experiments / "wiki_all_ents" / name / f"epoch_{epoch}")
