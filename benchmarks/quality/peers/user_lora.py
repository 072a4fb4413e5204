"""A LoRA of its own for each user, on top of the shared plain LoRA: OPPU (Tan et al., EMNLP-24) without its data leak.

As OPPU: rank 8, alpha 8, query and value (of the blocks that everybody adapts here), the task LoRA folded in and frozen
below it, AdamW with weight decay 0.01 on the user's own rows, 16 in a batch. Unlike its published script, no user
trains on other users' rows: there the list of training data is made outside of the loop over users.
Not as OPPU: three epochs for 64 rows and twelve for 16 and fewer, not two; the step size, 1e-4 there for the long
histories of a 7B model, is chosen on the population; no clipping, which Adam's scaling makes idle; of a user's rows the
first 64 are used.
"""

from benchmarks.quality.peers.descended import Begun, Descended
from benchmarks.quality.peers.descent import Course
from benchmarks.quality.peers.voices import LowRankVoice
from benchmarks.quality.shared import Shared
from plora.lowrank_fitting import beginning

RANK, ALPHA = 8, 8.0
RATES = (1e-3, 2.5e-3, 6e-3, 1.5e-2)
STEPS = 12


def make_user_lora(shared: Shared) -> Descended:
    return Descended("user_lora", begin, shared, rates=RATES, course=Course(RATES[0], steps=STEPS))


def begin(shared: Shared) -> Begun:
    """The start changes nothing: A is Kaiming-uniform, the same for all, and B is 0."""
    voice = LowRankVoice(shared.base, shared.plain.basis, RANK, ALPHA)
    return Begun(voice, beginning(shared.plain.basis, voice.layout))
