"""Population training as the paper's code does it: from a given Basis on, the table of users from zeros, not whitened.

The library's own training starts its users' vectors at what tells the users apart and hands the Basis out in whitened
coordinates; this one runs the same descent on the same objective without either.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from plora import BaseModel, Basis, Example, PopulationSettings
from plora.attachment import Attachment, attach
from plora.descent import Descent, Listeners
from plora.losses import Objective
from plora.peers import Alone
from plora.population import trained_leaves
from plora.windows import Survey, Windows


def trained(
    base: BaseModel, basis: Basis, users: Sequence[Sequence[Example]], settings: PopulationSettings
) -> tuple[Basis, Tensor]:
    """The Basis after `settings.epochs` of the users' examples, and their (users, d) vectors."""
    found = Survey(basis.labels, torch.tensor([len(examples) for examples in users]))
    live = attach(base, basis)
    objective = Objective(base, live, found, settings)
    windows = Windows(base, basis, users, found, settings.window)
    try:
        with torch.random.fork_rng([base.device] if base.device.type == "cuda" else []):
            shared = trained_leaves(live)
            for layer in live.layers.values():
                layer.dropout = settings.dropout
                layer.train()
            Descent(objective, shared, windows=windows, aside={}, peers=Alone()).run("", Listeners())
            return _handed_out(live), objective.vectors.detach().clone()
    finally:
        objective.prefix.close()
        base.module.eval()
        live.detach()


def _handed_out(live: Attachment) -> Basis:
    tensors = dict(live.basis.tensors)
    for name, layer in live.layers.items():
        tensors |= {f"{letter}.{name}": getattr(layer, letter).detach().cpu().clone() for letter in "ABP"}
    if live.head is not None:
        tensors |= {f"head.{name}": value.detach().cpu().clone() for name, value in live.head.state_dict().items()}
    return Basis(live.basis.spec, tensors)
