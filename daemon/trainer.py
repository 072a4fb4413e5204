"""The Trainer as a Ray Serve application, and the child process that runs it on one machine.

Routes: POST /fit, /shard and /basis (deployment Trainer), POST /predict and /predict/generate (deployment Predictor),
GET /ready and /predict/ready, and GET /progress/BASIS, which tells numbers of a Basis in training, whoever trains it.
Every POST carries one sealed envelope and gets one sealed answer (daemon/transport.py), /predict/generate one in sealed
frames (daemon/frames.py); Ray sees ciphertext and sizes.
No exception leaves a replica: its text could hold what somebody wrote. Ray repeats nothing; the run's lease does.

The child reads one line of JSON, a ChildOrder, from its standard input and lives until that input ends: when the
daemon dies, however it dies, the pipe closes and the child takes its Ray down with it.
"""

import asyncio
import gc
import math
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from types import FrameType

import ray
import torch
from pydantic import TypeAdapter
from ray import serve
from ray.serve.config import AutoscalingConfig
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from daemon import telemetry
from daemon.errors import DaemonError
from daemon.models import Models, load_base
from daemon.pipeline import Pipeline
from daemon.predictor_replica import MAX_REQUEST_BYTES, REQUESTS_AT_ONCE, PredictorReplica
from daemon.spool import Spool
from daemon.telemetry_choices import OtlpChoices
from daemon.telemetry_context import HEADER, parse
from daemon.trainer_order import KEY_FILE, TRAINER_NICENESS, ChildOrder, TrainerOrder, order_of
from daemon.transport import KEY_UNKNOWN, Purpose, encode_unknown
from daemon.work import answer, receive, reply
from storage.sealing import Unreadable
from storage.transport_keys import Keys, TransportKeys, TransportKeyUnknown

SHUTDOWN_S = 20.0
DRAIN_S = 300.0
"""What a replica that makes way is given to finish the cohorts it has already taken."""
PROGRESS_PATH = "/progress/"


class ReplicaSpent(DaemonError):
    """A replica has worked on all the cohorts it is meant for. Serve is told, nobody else."""

    def __init__(self, cohorts: int) -> None:
        super().__init__(cohorts)
        self.cohorts = cohorts

    def __str__(self) -> str:
        return f"this replica has done its {self.cohorts} cohorts: a new process is to take its place"


class Replica:
    """One process that holds a warm BaseModel and works on one request at a time, outside its event loop.

    While it does, the next request is unsealed and the last answer sealed in other threads. After enough cohorts it
    fails its health checks. After the third Serve sends it nothing more, lets it finish what it has taken, ends it and
    starts another, and holds back requests until that one is ready: none of them fails.
    """

    def __init__(self, order: TrainerOrder, niceness: int = 0) -> None:
        os.nice(niceness)
        telemetry.configure(OtlpChoices(order.otlp), "trainer")
        torch.set_num_threads(order.threads)
        self._most, self._cohorts, self._bases = order.recycle, 0, 0
        self._keys = TransportKeys(Path(os.environ[KEY_FILE]))
        self._keys.newest()  # a replica without one would answer nobody
        self._models = held_models(order, self._keys)
        gc.freeze()  # the model stays: nothing in it is ever garbage
        self._aside = ThreadPoolExecutor(1, "basis")
        self._pipeline = Pipeline(
            receive=partial(receive, self._keys),
            act=partial(answer, self._models),
            reply=reply,
            worker=ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(order.threads,)),
        )

    async def __call__(self, request: Request) -> Response:
        """Answer one HTTP request."""
        if request.url.path.startswith(PROGRESS_PATH):
            told = self._models.spool.progress(request.url.path.removeprefix(PROGRESS_PATH))
            return JSONResponse({"code": "not_training"}, 404) if told is None else JSONResponse(asdict(told))
        if request.method == "GET":
            base = self._models.base
            return JSONResponse({"base": base.fingerprint, "kind": base.kind.value, "device": str(base.device)})
        envelope = await request.body()
        if len(envelope) > MAX_REQUEST_BYTES:
            return JSONResponse({"code": "too_large"}, 413)
        trace = parse(request.headers.get(HEADER))
        if trace is None:
            return await self._answer(request.url.path, envelope)
        with telemetry.ending(telemetry.begin(f"trainer {request.url.path}", trace, kind=telemetry.Kind.SERVER)):
            return await self._answer(request.url.path, envelope)

    async def _answer(self, path: str, envelope: bytes) -> Response:
        try:
            sealed = await self._work(path, envelope)
        except TransportKeyUnknown as unknown:
            return Response(encode_unknown(unknown.newest), KEY_UNKNOWN, media_type="application/json")
        except Unreadable:
            return JSONResponse({"code": "unreadable"}, 400)
        except Exception:  # noqa: BLE001 - around a request: Ray would log and carry the text of whatever this is
            return JSONResponse({"code": "failed"}, 500)
        return Response(sealed, media_type="application/octet-stream")

    async def check_health(self) -> None:
        """Called by Serve. Raises ReplicaSpent, but not while a Basis is in training: it would not drain."""
        if self._most and self._cohorts >= self._most and not self._bases:
            raise ReplicaSpent(self._cohorts)

    async def _work(self, path: str, envelope: bytes) -> bytes:
        training = path == f"/{Purpose.BASIS.value}"
        self._bases += training
        try:
            return await self._do(path, envelope)
        finally:
            self._bases -= training
            self._cohorts += path == f"/{Purpose.FIT.value}"

    async def _do(self, path: str, envelope: bytes) -> bytes:
        """Where workers of their own train a Basis, this process's model is free for cohorts meanwhile."""
        if self._models.train is None or path != f"/{Purpose.BASIS.value}":
            return await self._pipeline.work(envelope)
        return await asyncio.get_running_loop().run_in_executor(self._aside, self._train, envelope)

    def _train(self, envelope: bytes) -> bytes:
        received = receive(self._keys, envelope)
        if received.head.purpose is not Purpose.BASIS:
            raise Unreadable("the request")
        return reply(received, answer(self._models, received))


def held_models(order: TrainerOrder, keys: Keys) -> Models:
    """The model and the spool of a replica, and how it trains a Basis: alone or with workers."""
    spool = Spool(Path(order.spool), keys) if order.spool else Spool()
    train = None
    if order.basis_workers > 1 and order.spool:
        from daemon.basis_workers import train_together  # noqa: PLC0415 - it takes pandas along

        train = partial(train_together, order, spool)
    return Models(load_base(order), spool=spool, train=train)


def local_share(order: TrainerOrder) -> float:
    """What each replica and each worker can have of the GPUs of this machine."""
    if order.device == "cpu" or not torch.cuda.is_available():
        return 0.0
    return min(1.0, torch.cuda.device_count() / held_processes(order))


def held_processes(order: TrainerOrder) -> int:
    """How many processes hold a model when all is at work."""
    return max(order.replicas, order.most_replicas) + order.predictors + basis_cpus(order)


def basis_cpus(order: TrainerOrder) -> int:
    """What the workers of a Basis need beside the replicas."""
    return order.basis_workers if order.basis_workers > 1 else 0


def trainer_app(order: TrainerOrder) -> serve.Application:
    """The application at /: fits cohorts and trains Bases."""
    made = _deployment(Replica, "Trainer", order, order.replicas, order.most_replicas)
    return made.bind(order, TRAINER_NICENESS)


def predictor_app(order: TrainerOrder) -> serve.Application:
    """The application at /predict."""
    made = _deployment(PredictorReplica, "Predictor", order, order.predictors, 0)
    return made.options(max_ongoing_requests=REQUESTS_AT_ONCE).bind(order)


def build_trainer(args: dict[str, object]) -> serve.Application:
    """For a Serve config file: `args` are fields of a TrainerOrder. Nothing is asked of the machine that builds, which
    may be a head without a GPU. Raises WrongOrder.
    """
    return trainer_app(order_of(args))


def build_predictor(args: dict[str, object]) -> serve.Application:
    """As build_trainer. Raises WrongOrder."""
    return predictor_app(order_of(args))


LOOK_S = 5.0
"""How often the child looks whether its Ray has a node; Ray itself takes some fifteen seconds to notice a loss."""


def run_child(order: ChildOrder, stopped: threading.Event) -> None:
    """Run a local Ray with both applications until `stopped` is set, then shut it down."""
    trainer = replace(order.trainer, gpu_share=local_share(order.trainer))
    ray.init(
        address="local",
        num_cpus=math.ceil(held_processes(trainer) * trainer.cpus),
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=order.object_store_bytes,
        _temp_dir=order.directory,
    )
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())  # Ray has put its own
    try:
        serve.start(
            proxy_location="HeadOnly",
            http_options={"host": order.host, "port": order.port},
            logging_config={"log_level": "WARNING", "enable_access_log": False},
        )
        targets = [
            serve.RunTarget(trainer_app(trainer), name="trainer", route_prefix="/"),
            serve.RunTarget(predictor_app(trainer), name="predictor", route_prefix="/predict"),
        ]
        serve.run_many(targets, wait_for_applications_running=False)
        while not stopped.wait(LOOK_S):
            if not any(node["Alive"] for node in ray.nodes()):
                # Replicas go on answering without a raylet, but whichever of them ends is never replaced.
                os._exit(1)
    finally:
        ray.shutdown()


def main() -> int:
    """The child's entry point."""
    stopped = threading.Event()

    def stop(_: int, __: FrameType | None) -> None:
        stopped.set()
        sys.exit(0)

    signal.signal(signal.SIGTERM, stop)
    line = sys.stdin.buffer.readline()
    order = TypeAdapter(ChildOrder).validate_json(line)
    threading.Thread(target=_follow_parent, args=(stopped,), daemon=True).start()
    run_child(order, stopped)
    return 0


def _follow_parent(stopped: threading.Event) -> None:
    """Stop when the daemon is gone; leave at once if Ray does not let go, and the kernel takes its daemons along."""
    while sys.stdin.buffer.read(1):
        pass
    stopped.set()
    threading.Event().wait(SHUTDOWN_S)
    os._exit(1)


def _deployment(
    replica: type[Replica | PredictorReplica], name: str, order: TrainerOrder, replicas: int, most: int
) -> serve.Deployment:
    resources: dict[str, float] = {"num_cpus": order.cpus}
    if order.gpu_share:
        resources["num_gpus"] = order.gpu_share  # it then sees this GPU and no other
    return serve.deployment(
        replica,
        name=name,
        num_replicas=replicas if most <= replicas else "auto",
        autoscaling_config=None if most <= replicas else _autoscaling(replicas, most),
        ray_actor_options=resources,
        max_ongoing_requests=8,  # they wait for one thread, while /ready and health checks are answered
        health_check_period_s=1,  # a replica that is gone is replaced after this, one that makes way after three
        health_check_timeout_s=30,
        graceful_shutdown_timeout_s=DRAIN_S,
    )


def _autoscaling(least: int, most: int) -> AutoscalingConfig:
    """By what the daemons have sent: to a busy replica one request that it works on, and one that waits. A replica that
    makes way first ends what it has taken.
    """
    return AutoscalingConfig(
        min_replicas=least,
        max_replicas=most,
        target_ongoing_requests=2,
        upscale_delay_s=15,
        downscale_delay_s=600,
    )


if __name__ == "__main__":
    # Ray carries a class of `__main__` by value; import this module under its own name instead.
    sys.exit(import_module("daemon.trainer").main())
