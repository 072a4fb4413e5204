"""Run by test_population_at_scale.py in processes of their own: training that is killed, and training with a peer.

python population_process.py killed FOLDER         saves checkpoints until it is killed, and waits after the third
python population_process.py peer FOLDER RANK SIZE trains its share, peers meeting in a file of FOLDER
"""

import dataclasses
import sys
import threading
from pathlib import Path

import torch

import plora
from plora import MutualInformation, PopulationSettings, Reach
from plora.checkpoints import Checkpoint, dumps_checkpoint
from plora.peers import GroupPeers, Peers
from tests.plora import toys

SETTINGS = PopulationSettings(
    rank=4,
    dimensions=4,
    epochs=4,
    shared_rate=1e-2,
    user_rate=2e-2,
    last_layers=1,
    dropout=0.2,
    personalized_dropout=0.3,
    mutual_information=MutualInformation.INFOMAX,
    accumulate=2,
    patience=2,
    held_out=0.2,
    checkpoint_steps=1,
    window=60,
    reach=Reach.TARGETS,
    label_bias=False,
)
USERS, EXAMPLES = 24, 20


def base() -> plora.BaseModel:
    return plora.wrap(toys.bert(), toys.tokenizer(framed=True), kind=plora.Kind.CLASSIFICATION, max_tokens=24)


def train(settings: PopulationSettings = SETTINGS, **how: object) -> plora.Population:
    torch.set_num_threads(1)
    return plora.train_population(base(), toys.toy_population(USERS, EXAMPLES), settings, **how)


def be_killed(folder: Path) -> None:
    made: list[Checkpoint] = []

    def keep(checkpoint: Checkpoint) -> None:
        made.append(checkpoint)
        if checkpoint.standing.epoch == 1 and checkpoint.standing.steps == 2:
            (folder / "writing").write_bytes(dumps_checkpoint(checkpoint))
            (folder / "writing").rename(folder / "checkpoint")
            threading.Event().wait()

    train(on_checkpoint=keep)


def be_peer(folder: Path, rank: int, size: int) -> None:
    torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=size)
    peers: Peers = GroupPeers()
    made = train(peers=peers)
    calm = train(dataclasses.replace(SETTINGS, mutual_information=MutualInformation.NONE, patience=None), peers=peers)
    for name, one in {"made": made, "calm": calm}.items():
        torch.save({"vectors": one.vectors, "history": one.history, "held": one.held_out}, folder / f"{name}{rank}")
        (folder / f"{name}{rank}.basis").write_bytes(plora.dumps(one.basis))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    what, where, *rest = sys.argv[1:]
    if what == "killed":
        be_killed(Path(where))
    else:
        be_peer(Path(where), *map(int, rest))
