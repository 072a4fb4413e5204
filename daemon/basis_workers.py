"""Population training by several processes: Ray Train's workers, each with its share of every step.

A worker is told the order, the key file's path and the Basis's id, nothing else. It reads the sealed request and the
sealed shards from the spool; the first worker puts the sealed Basis back there. Of an error only the class name leaves.
"""

import os
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from daemon.errors import DaemonError
from daemon.messages import BasisRequest, decode_request, encode_request
from daemon.population import Made, identity_of, train
from daemon.spool import Spool
from daemon.trainer_order import KEY_FILE, TRAINER_NICENESS, TrainerOrder
from daemon.trainers import load_models
from plora.peers import GroupPeers
from storage.transport_keys import TransportKeys

REQUEST, CONTENT, REPORT, FAILURE = "request", "content", "report", "failure"


class WorkersFailed(DaemonError):
    """A worker failed. `code` is its error's class name."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code

    def __str__(self) -> str:
        return f"a worker of population training failed with {self.code}"


def train_together(order: TrainerOrder, spool: Spool, request: BasisRequest) -> Made:
    """Have `order.basis_workers` processes train. Raises WorkersFailed."""
    own = identity_of(request)
    spool.write(request.basis, REQUEST, "", encode_request(request))
    spool.write(request.basis, FAILURE, own, b"WorkersFailed")  # unless they say otherwise
    config = {"order": asdict(order), "key_file": os.environ[KEY_FILE], "basis": request.basis}
    trainer = TorchTrainer(
        share,
        train_loop_config=config,
        torch_config=TorchConfig(backend="nccl" if order.gpu_share == 1 else "gloo"),  # NCCL wants whole GPUs
        scaling_config=ScalingConfig(
            num_workers=order.basis_workers,
            use_gpu=order.gpu_share > 0,
            resources_per_worker={"CPU": order.cpus} | ({"GPU": order.gpu_share} if order.gpu_share else {}),
        ),
        run_config=RunConfig(
            name="train",
            storage_path=str(Path(order.spool) / f"basis-{request.basis}"),
            failure_config=FailureConfig(max_failures=0),  # the Basis's lease repeats, from the checkpoint on
        ),
    )
    with suppress(Exception):  # Ray's error quotes the worker's; what counts is in the spool
        trainer.fit()
    content, report = (spool.read(request.basis, part, own) for part in (CONTENT, REPORT))
    if content is None or report is None:
        raise WorkersFailed((spool.read(request.basis, FAILURE, own) or b"").decode())
    return Made(content, report.decode())


def share(config: dict[str, object]) -> None:
    """One worker's life, in a process group that Ray Train has opened."""
    order = TypeAdapter(TrainerOrder).validate_python(config["order"])
    keys, basis = TransportKeys(Path(str(config["key_file"]))), str(config["basis"])
    spool = Spool(Path(order.spool), keys)
    os.nice(TRAINER_NICENESS)
    request = decode_request(spool.read(basis, REQUEST, "") or b"")
    if not isinstance(request, BasisRequest):
        raise WorkersFailed("BasisRequest")
    own = identity_of(request)
    try:
        peers = GroupPeers()
        made = train(load_models(order).base, spool, request, peers)
        if peers.rank == 0:
            spool.write(basis, REPORT, own, made.report.encode())
            spool.write(basis, CONTENT, own, made.content)
    except Exception as error:  # noqa: BLE001 - around a run: Ray would log and carry the text of whatever this is
        code = type(error).__name__
        spool.write(basis, FAILURE, own, code.encode())
        raise WorkersFailed(code) from None
