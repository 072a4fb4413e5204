"""A replica that answers for many users at once. Ray Serve holds it; it knows no Ray itself."""

import asyncio
import gc
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import torch
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from daemon import telemetry
from daemon.batching import Batcher, QueueFull
from daemon.messages import Answer
from daemon.models import Models, load_base
from daemon.streams import frames_in_loop
from daemon.telemetry_choices import OtlpChoices
from daemon.telemetry_context import HEADER, parse
from daemon.trainer_order import KEY_FILE, TrainerOrder
from daemon.transport import KEY_UNKNOWN, encode_unknown
from daemon.work import Received, answer_all, receive, reply, rows_of
from storage.sealing import Unreadable
from storage.transport_keys import TransportKeys, TransportKeyUnknown

MAX_REQUEST_BYTES = 1 << 28
GENERATE_PATH = "/generate"
DESKS = 2
"""Threads that unseal and seal, beside the model's."""

ROWS_AT_ONCE, ROWS_WAITING, REQUESTS_AT_ONCE = 64, 1_024, 256
"""Through the model together, in the queue before callers are sent away, and open at all."""


class PredictorReplica:
    """One process that answers: whatever waits goes through the model together, outside the event loop.

    It is given adapters with requests and keeps them for as long as requests name them (daemon/adapter_cache.py).
    """

    def __init__(self, order: TrainerOrder) -> None:
        telemetry.configure(OtlpChoices(order.otlp), "predictor")
        torch.set_num_threads(order.threads)
        self._keys = TransportKeys(Path(os.environ[KEY_FILE]))
        self._keys.newest()  # a replica without one would answer nobody
        self._models = Models(load_base(order))
        gc.freeze()  # the model stays: nothing in it is ever garbage
        self._desk = ThreadPoolExecutor(DESKS, "desk")
        self._batcher: Batcher[Received, Answer] = Batcher(
            partial(answer_all, self._models), weigh=rows_of, most=ROWS_AT_ONCE, depth=ROWS_WAITING, name="predicting"
        )

    async def __call__(self, request: Request) -> Response:
        """Answer one HTTP request."""
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
        run = asyncio.get_running_loop().run_in_executor
        try:
            received = await run(self._desk, receive, self._keys, envelope)
            if path.endswith(GENERATE_PATH):
                frames = await frames_in_loop(self._models, received)
                return StreamingResponse(frames, media_type="application/octet-stream")
            answered = await asyncio.wrap_future(self._batcher.submit(received))
            return Response(await run(self._desk, reply, received, answered), media_type="application/octet-stream")
        except QueueFull:
            return JSONResponse({"code": "busy"}, 429)
        except TransportKeyUnknown as unknown:
            return Response(encode_unknown(unknown.newest), KEY_UNKNOWN, media_type="application/json")
        except Unreadable:
            return JSONResponse({"code": "unreadable"}, 400)
        except Exception:  # noqa: BLE001 - around a request: Ray would log and carry the text of whatever this is
            return JSONResponse({"code": "failed"}, 500)
