"""How fast the frozen model alone goes, measured by the Trainer once: the limit that a fit is held against."""

from collections.abc import Sequence

import torch

import plora
from daemon.clock import monotonic

ROWS, LEAST = 64, 8
"""Texts that are tried, and how few say nothing."""
TIMES = 3


def tokens_of(base: plora.BaseModel, texts: Sequence[str]) -> list[int]:
    """(text,) how many tokens the model reads of each."""
    if not texts:
        return []
    encoded = base.tokenizer(list(texts), truncation=True, max_length=base.max_tokens)
    return [len(each) for each in encoded["input_ids"]]


def bare_pace(base: plora.BaseModel, texts: Sequence[str]) -> float:
    """Tokens a second of the bare model over `texts`, sorted by length and without a gradient; the fastest of TIMES."""
    tried = sorted(texts, key=len)[-ROWS:]
    batch = base.tokenizer(tried, truncation=True, max_length=base.max_tokens, padding=True, return_tensors="pt")
    batch = batch.to(base.device)
    tokens = int(batch["attention_mask"].sum())
    best = 0.0
    with torch.inference_mode():
        for _ in range(TIMES):
            begun = monotonic()
            base.module(**batch)
            if base.device.type == "cuda":
                torch.cuda.synchronize(base.device)
            best = max(best, tokens / max(monotonic() - begun, 1e-9))
    return best
