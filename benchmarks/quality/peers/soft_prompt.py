"""One trained token for each user after [CLS], all else frozen: UserAdapter (Zhong et al., 2021), many users at once.

The token enters where the blocks begin that every method adapts (the embeddings, where those are all blocks), on top of
the shared plain LoRA: there it learned more in as many steps than among the embeddings, at a third of the cost.
Everybody starts at the prompt that serves the population best, trained as one user's on rows of many people from the
population's mean token on; zero shots are answered with it. Of a user's rows the first 64 are used.
"""

from collections.abc import Sequence
from itertools import zip_longest

import torch
from torch import Tensor

from benchmarks.quality.folds import Person
from benchmarks.quality.peers.descended import Begun, Descended
from benchmarks.quality.peers.descent import Course, descend
from benchmarks.quality.peers.voices import PromptVoice, learned
from benchmarks.quality.shared import Shared
from plora import Example
from plora.passes import passes

RATES = (0.05, 0.2, 0.7, 2.0)
COMMON_ROWS = 512
COMMON = Course(rate=1e-2, steps=16, batch=64, decay=0.0)


def make_soft_prompt(shared: Shared) -> Descended:
    """Raises Unavailable where the model is no BERT-like classifier."""
    return Descended("soft_prompt", begin, shared, rates=RATES, course=Course(RATES[0], decay=0.0))


def begin(shared: Shared) -> Begun:
    voice = PromptVoice(shared.base, shared.plain.basis)
    return Begun(voice, common_prompt(voice, some_of_each(shared.fold.population, COMMON_ROWS)))


def common_prompt(voice: PromptVoice, examples: Sequence[Example]) -> Tensor:
    """(width,) the prompt that serves `examples` as if they were one user's."""
    [rows] = learned(voice, [examples])
    total, tokens = torch.zeros(()), 0
    with passes(voice.engine, rows) as run:
        for batch in run.batches():
            mask = batch.mask[: len(batch.index)]
            total = total + (voice.entering(batch)[: len(mask)] * mask[..., None]).sum((0, 1)).cpu()
            tokens += int(mask.sum())
    return descend(voice, [rows], total / max(1, tokens), COMMON)[0]


def some_of_each(people: Sequence[Person], most: int) -> list[Example]:
    """Everybody's first row, everybody's second, and so on."""
    turns = zip_longest(*(person.learn for person in people))
    return [example for turn in turns for example in turn if example is not None][:most]
