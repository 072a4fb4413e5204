"""Texts of a known length that hardly ever occur twice, where only the cost is measured."""

import random

WORDS = ("the", "a", "quiet", "loud", "small", "large", "lamp", "bag", "kettle", "jacket", "chair", "is", "was")


def text(draw: random.Random, words: int) -> str:
    """Each word is one token of MiniLM's tokenizer."""
    return " ".join(draw.choices(WORDS, k=words))
