"""``blink kglm``: embeddings from a graph and its texts."""

from __future__ import annotations

import click

from blink.apps.lazy import HIDDEN, LazyGroup

COMMANDS = {
    "train": ("blink.apps.kglm.training:train", "Train what a run file describes."),
    "resume": ("blink.apps.kglm.training:resume", "Continue a run, to the results of one without interruption."),
    "sweep": ("blink.apps.kglm.sweep:sweep", "Search for the best settings of a run."),
    "eval": ("blink.apps.kglm.results:evaluate", "Measure the best state of a run."),
    "predict": ("blink.apps.kglm.predict:predict", "Predict tails, heads or relations of a graph."),
    "export": ("blink.apps.kglm.results:export", "Write the vectors of a run for the linker."),
    "generate": ("blink.apps.kglm.generate:generate", "Continue a prompt with the best states of runs."),
    "embed": ("blink.apps.kglm.embed:embed", "Encode texts of entities or relations with a pretrained language model."),
    "reduce": ("blink.apps.kglm.reduce:reduce", "Reduce the dimension of vectors."),
    "plot": ("blink.apps.kglm.plot:plot", "Draw vectors by type: a PNG, and an interactive page."),
    "prior": ("blink.apps.kglm.build_prior:prior", "Write the graph data that a linker needs into one file."),
    "tune-prior": ("blink.apps.kglm.tune_prior:tune_prior", "Fit the weights of a prior for a model's scores."),
    "weigh": ("blink.apps.kglm.tune_prior:tune_prior", HIDDEN),
}
"""Name -> where the command is, and its short help."""


@click.group(cls=LazyGroup, table=COMMANDS)
def kglm() -> None:
    """Learn embeddings from a knowledge graph and its texts.

    A run file says what to learn (see examples/kglm); its kind selects the defaults. A run is a folder: settings.yaml,
    trace.jsonl, checkpoints, best/, metrics.json and curves.png. Needs: pip install 'blink-linker[kglm]'.

    \b
    Example:
      blink kglm train examples/kglm/complex-codex-s.yaml --out experiments/complex
      blink kglm resume experiments/complex                   continue it
      blink kglm eval experiments/complex --split test
      blink kglm export experiments/complex --out vectors     for the linker
    """
