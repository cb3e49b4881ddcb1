"""Toys for pre-training: the tiny dump, a byte-level BPE learnt from it, a small RoBERTa."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from examples.pretraining.dump import Dump
from examples.pretraining.wikitext import paragraphs

Examples = Callable[..., tuple[int, str, str]]
"""Runs a command: exit status, standard output, standard error."""
ROOT = Path(__file__).resolve().parents[2]
TINY_DUMP = ROOT / "examples" / "pretraining" / "tiny" / "dump.xml"


def tiny_texts() -> list[str]:
    """The running text of the tiny dump."""
    dump = Dump(TINY_DUMP)
    return [p.text for page in dump.pages() for p in paragraphs(page.text, dump.site)]


def roberta_tokenizer(texts: list[str], vocab_size: int = 600) -> Any:
    """A RoBERTa tokenizer learnt from texts, with the special ids of the real one."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaTokenizer

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    learnt = ByteLevelBPETokenizer()
    learnt.train_from_iterator(texts, vocab_size, min_frequency=1, special_tokens=special, show_progress=False)
    model = json.loads(learnt.to_str())["model"]
    return RobertaTokenizer(vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]])


def roberta_folder(folder: Path, texts: list[str] | None = None, **settings: Any) -> Path:
    """An untrained RoBERTa with a masked-word head, and its tokenizer, as a Hugging Face folder."""
    import torch
    from transformers import RobertaConfig, RobertaForMaskedLM

    from blink.model.pretrained import quiet_transformers

    tokenizer = roberta_tokenizer(texts or tiny_texts())
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, **settings}
    sizes = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, **sizes}
    config = RobertaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=130, type_vocab_size=1, layer_norm_eps=1e-5, **sizes
    )
    with quiet_transformers():
        RobertaForMaskedLM(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def write_dump(path: Path, pages: dict[str, str], redirects: dict[str, str] | None = None) -> Path:
    """A dump of articles and redirects."""
    texts = {title: f"<revision><text>{text}</text></revision>" for title, text in pages.items()}
    texts |= {s: f'<redirect title="{t}" /><revision><text>#REDIRECT</text></revision>' for s, t in (redirects or {}).items()}
    body = "".join(
        f"<page><title>{t}</title><ns>0</ns><id>{i}</id>{rest}</page>\n" for i, (t, rest) in enumerate(texts.items())
    )
    path.write_text(f"<mediawiki>\n{body}</mediawiki>\n", encoding="utf-8")
    return path
