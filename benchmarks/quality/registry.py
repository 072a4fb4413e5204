"""Every method by the name that quality.json gives it."""

from benchmarks.quality.floors import FLOORS
from benchmarks.quality.methods import Maker
from benchmarks.quality.ours import OURS
from benchmarks.quality.peers import PEERS

METHODS: dict[str, Maker] = {**OURS, **PEERS, **FLOORS}

CONTROLS = ("generic", "label_prior", "wrong_user", "vector", "plain_lora")
"""What ours is held against to understand it; everything else that is not ours is a baseline it must not lose to."""
