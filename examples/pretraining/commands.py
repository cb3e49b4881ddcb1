"""The commands ``pretraining ...``: from a dump to a model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from blink.apps.options import settings_options, take_settings
from examples.luke.options import PRECISION, Common, TaskGroup, take_precision
from examples.luke.settings import TuneSettings
from examples.pretraining.settings import FreezeSettings, MaskSettings, WindowLimits

POOL = click.option("--pool-size", type=click.IntRange(1), default=1, show_default=True, help="Processes.")
COMPUTED = (
    "train_batch_size", "eval_batch_size", "num_train_epochs", "warmup_proportion", "precision", "fp16_min_loss_scale",
    "fp16_max_loss_scale", "save_steps", "keep",
)  # fmt: skip
"""Settings of fine-tuning without an option of their name: computed, fixed, or under another name."""


@click.group("pretraining", cls=TaskGroup)
def command() -> None:
    """Pre-train LUKE: dump, entity vocabulary, packed dataset, masked words and masked entities.

    \b
    All steps, with the tiny dump; a real one is enwiki-20181220-pages-articles.xml.bz2:
      E="python -m examples.cli"
      $E pretraining build-dump-db examples/pretraining/tiny/dump.xml db
      $E pretraining build-entity-vocab db entity_vocab.jsonl --vocab-size 500000
      $E pretraining build-dataset db roberta-base entity_vocab.jsonl dataset
      $E --output-dir stage1 pretraining train --dataset-dir dataset --bert-model-name roberta-base \\
          --fix-bert-weights --learning-rate 5e-4
      $E --output-dir stage2 --model-file stage1/model pretraining train --dataset-dir dataset
    """


@command.command("build-dump-db")
@click.argument("dump", metavar="DUMP.xml.bz2")
@click.argument("out", metavar="DIR")
@POOL
@click.option("--chunk-size", type=click.IntRange(1), default=1000, show_default=True, help="Articles per file and job.")
def build_dump_db(dump: str, out: str, pool_size: int, chunk_size: int) -> None:
    """Parse a MediaWiki XML dump (plain, .gz or .bz2) into a folder that the next commands read.

    A stopped build is resumed. The folder contains articles, redirects.tsv and titles.txt.

    \b
    Example:
      python -m examples.cli pretraining build-dump-db enwiki-20181220-pages-articles.xml.bz2 enwiki-db --pool-size 16
    """
    from examples.pretraining.building import make_dump_db

    make_dump_db(dump, out, pool_size, chunk_size)


@command.command("build-entity-vocab")
@click.argument("dump_db", metavar="DB")
@click.argument("out", metavar="OUT.jsonl")
@click.option("--vocab-size", type=click.IntRange(4), default=1_000_000, show_default=True, help="Rows, special ones included.")
@click.option("--min-count", type=click.IntRange(0), default=0, show_default=True, help="Fewest links to a title.")
@click.option("--language", metavar="CODE", help="Language of the titles, such as de.")
@click.option("-w", "--white-list", "white_list", multiple=True, metavar="FILE", help="Titles, one per line, to include.")
@click.option("--white-list-only", is_flag=True, help="Include only these titles.")
@POOL
def build_entity_vocab(dump_db: str, out: str, **options: Any) -> None:
    """Select the titles with the most links, redirects followed.

    OUT.jsonl has one entity per line; a name in .tsv gives the older format, title<TAB>count.

    \b
    Example (the published vocabulary has 500,000 rows):
      python -m examples.cli pretraining build-entity-vocab enwiki-db entity_vocab.jsonl --vocab-size 500000
    """
    from examples.pretraining.building import make_entity_vocab

    make_entity_vocab(dump_db, out, **options)


@command.command("build-dataset")
@click.argument("dump_db", metavar="DB")
@click.argument("tokenizer", metavar="TOKENIZER")
@click.argument("vocab", metavar="VOCAB")
@click.argument("out", metavar="DIR")
@click.option(
    "--sentence-splitter", "--sentence-tokenizer", "sentence_splitter", default="rules", show_default=True, metavar="NAME",
    help="rules (English), or a locale of ICU such as en (needs PyICU).",
)  # fmt: skip
@settings_options(WindowLimits, without=("include_unk_entities",), bounds=True)
@click.option(
    "--include-unk-entities/--skip-unk-entities", default=False, help="Keep links to other titles as [UNK], or drop them."
)
@click.option("--max-num-documents", type=click.IntRange(1), help="Number of articles, from the first.  [default: all]")
@click.option("--predefined-entities-only", is_flag=True, help="Only articles whose title is in the vocabulary.")
@click.option("--language", metavar="CODE", help="Language of the titles, for a multilingual vocabulary.")
@POOL
def build_dataset(dump_db: str, tokenizer: str, vocab: str, out: str, **options: Any) -> None:
    """Split articles into windows of sentences with their links. A stopped build is resumed.

    TOKENIZER is a folder or a name, such as roberta-base; VOCAB is the output of build-entity-vocab.

    \b
    Example (settings of the published model):
      python -m examples.cli pretraining build-dataset enwiki-db roberta-large entity_vocab.jsonl dataset \\
          --include-unk-entities --pool-size 16
    """
    from examples.pretraining.building import make_dataset

    make_dataset(dump_db, tokenizer, vocab, out, **options)


@command.command("train")
@click.option("--dataset-dir", required=True, metavar="DIR", help="Output of build-dataset.")
@click.option("--output-dir", "output_dir", metavar="DIR", help="Folder of the run; also accepted before the command.")
@click.option("--bert-model-name", metavar="NAME", help="RoBERTa that initialises a new model, or give --model-file.")
@click.option(
    "--entity-emb-size", type=click.IntRange(1), default=256, show_default=True, help="Dimension of a new entity table."
)
@settings_options(MaskSettings, without=("whole_word_masking",))
@click.option("--whole-word-masking/--subword-masking", default=True, show_default=True, help="Mask words, or single tokens.")
@settings_options(FreezeSettings)
@click.option("--cls-entity-prediction", is_flag=True, help="Predict the page's own entity from the state of <s> too.")
@click.option("--batch-size", type=click.IntRange(1), default=2048, show_default=True, help="Windows per step.")
@click.option("--num-epochs", "num_train_epochs", type=float, default=20.0, show_default=True, help="May be a fraction.")
@click.option("--warmup-steps", type=click.IntRange(0), default=2500, show_default=True, help="Steps of linear warm-up.")
@settings_options(TuneSettings, without=COMPUTED, defaults={"seed": 4, "adam_b2": 0.999}, bounds=True)
@PRECISION[0]
@PRECISION[1]
@click.option("--cpu", is_flag=True, help="The same as --num-gpus 0.")
@click.option(
    "--save-interval-steps", "save_steps", type=click.IntRange(0), default=0, show_default=True, help="0: after each epoch."
)
@click.option(
    "--eval-windows", type=click.IntRange(0), default=1000, show_default=True, help="Windows evaluated after each epoch."
)
@click.option("--resume", is_flag=True, help="Resume the run in --output-dir, to the weights of an uninterrupted one.")
@click.pass_obj
def train(common: Common, /, **options: Any) -> None:
    """Train to predict masked words and masked entities.

    The folder contains model/ for fine-tuning, trace.jsonl, results.json and checkpoints. Two stages, as published: first
    --fix-bert-weights at 5e-4, from --bert-model-name; then all parameters, from the model of the first stage.

    \b
    Example:
      python -m examples.cli --num-gpus 8 --output-dir stage1 pretraining train --dataset-dir dataset \\
          --bert-model-name roberta-large --fix-bert-weights --learning-rate 5e-4 --gradient-accumulation-steps 16 --bf16
      python -m examples.cli --num-gpus 8 --output-dir stage2 --model-file stage1/model pretraining train \\
          --dataset-dir dataset --learning-rate 1e-5 --gradient-accumulation-steps 16 --bf16
    """
    from examples.pretraining.running import PretrainPlan, run_pretraining

    options["precision"] = take_precision(options)
    folder, cpu = options.pop("output_dir"), options.pop("cpu")
    common = replace(common, output_dir=folder or common.output_dir, num_gpus=0 if cpu else common.num_gpus)
    masks, frozen = take_settings(MaskSettings, options), take_settings(FreezeSettings, options)
    plan_options = {name: options.pop(name) for name in PretrainPlan.__dataclass_fields__ if name in options}
    run_pretraining(common, PretrainPlan(**plan_options, masks=masks, frozen=frozen, settings=options))
