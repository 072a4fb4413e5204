"""The Trainer as a Ray Serve application, and the child process that runs it on one machine. The only user of Ray.

Routes: POST /fit and /basis (deployment Trainer), POST /predict (deployment Predictor), GET /ready and /predict/ready.
Every POST carries one sealed envelope and gets one sealed answer (daemon/transport.py); Ray sees ciphertext and sizes.
No exception leaves a replica: its text could hold what somebody wrote. Ray repeats nothing; the run's lease does.

The child reads one line of JSON, a ChildOrder, from its standard input and lives until that input ends: when the
daemon dies, however it dies, the pipe closes and the child takes its Ray down with it.
"""

import asyncio
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from types import FrameType

import ray
import torch
from pydantic import TypeAdapter
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

import plora
from daemon.trainer_order import KEY_FILE, ChildOrder, TrainerOrder
from daemon.work import Models, work
from storage.keys import read_key
from storage.sealing import Unreadable

MAX_REQUEST_BYTES = 1 << 28
TRAINER_NICENESS = 15  # answering comes before training
SHUTDOWN_S = 20.0


class Replica:
    """One process that holds a warm BaseModel and does one sealed request at a time, outside its event loop."""

    def __init__(self, order: TrainerOrder, niceness: int = 0) -> None:
        os.nice(niceness)
        torch.set_num_threads(order.threads)
        self._key = read_key(Path(os.environ[KEY_FILE]))
        self._models = Models(load_base(order))
        self._worker = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(order.threads,))

    async def __call__(self, request: Request) -> Response:
        """Answer one HTTP request."""
        if request.method == "GET":
            base = self._models.base
            return JSONResponse({"base": base.fingerprint, "kind": base.kind.value, "device": str(base.device)})
        envelope = await request.body()
        if len(envelope) > MAX_REQUEST_BYTES:
            return JSONResponse({"code": "too_large"}, 413)
        loop = asyncio.get_running_loop()
        try:
            answer = await loop.run_in_executor(self._worker, work, self._models, self._key, envelope)
        except Unreadable:
            return JSONResponse({"code": "unreadable"}, 400)
        except Exception:  # noqa: BLE001 - around a request: Ray would log and carry the text of whatever this is
            return JSONResponse({"code": "failed"}, 500)
        return Response(answer, media_type="application/octet-stream")


def load_base(order: TrainerOrder) -> plora.BaseModel:
    """The BaseModel that `order` names. Raises a plora.PLoRAError."""
    return plora.load(
        order.model,
        kind=plora.Kind(order.kind),
        device=order.device,
        max_tokens=order.max_tokens,
        revision=order.revision,
    )


def trainer_app(order: TrainerOrder) -> serve.Application:
    """The application at /: fits cohorts and trains Bases."""
    return _deployment("Trainer", order, order.replicas).bind(order, TRAINER_NICENESS)


def predictor_app(order: TrainerOrder) -> serve.Application:
    """The application at /predict."""
    return _deployment("Predictor", order, order.predictors).bind(order)


def build_trainer(args: dict[str, str]) -> serve.Application:
    """For a Serve config file: `args` are the fields of a TrainerOrder."""
    return trainer_app(TypeAdapter(TrainerOrder).validate_python(args))


def build_predictor(args: dict[str, str]) -> serve.Application:
    """For a Serve config file: `args` are the fields of a TrainerOrder."""
    return predictor_app(TypeAdapter(TrainerOrder).validate_python(args))


def run_child(order: ChildOrder, stopped: threading.Event) -> None:
    """Run a local Ray with both applications until `stopped` is set, then shut it down."""
    ray.init(
        address="local",
        num_cpus=order.trainer.replicas + order.trainer.predictors,
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
            serve.RunTarget(trainer_app(order.trainer), name="trainer", route_prefix="/"),
            serve.RunTarget(predictor_app(order.trainer), name="predictor", route_prefix="/predict"),
        ]
        serve.run_many(targets, wait_for_applications_running=False)
        stopped.wait()
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


def _deployment(name: str, order: TrainerOrder, replicas: int) -> serve.Deployment:
    resources: dict[str, float] = {"num_cpus": 1}
    if order.device != "cpu" and torch.cuda.is_available():
        resources["num_gpus"] = min(1.0, torch.cuda.device_count() / (order.replicas + order.predictors))
    return serve.deployment(
        Replica,
        name=name,
        num_replicas=replicas,
        ray_actor_options=resources,
        max_ongoing_requests=8,  # they wait for one thread, while /ready and health checks are answered
        health_check_period_s=5,
        health_check_timeout_s=30,
        graceful_shutdown_timeout_s=2,
    )


if __name__ == "__main__":
    # Ray carries a class of `__main__` by value; import this module under its own name instead.
    sys.exit(import_module("daemon.trainer").main())
