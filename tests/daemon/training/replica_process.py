"""A Trainer replica in a process of its own, without a Ray around it: `python replica_process.py ORDER`, JSON.

Says its URL on a line, and ends at SIGTERM.
"""

import socket
import sys

import uvicorn
from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from daemon.trainer import Replica
from daemon.trainer_order import TrainerOrder


def main() -> None:
    replica = Replica(TypeAdapter(TrainerOrder).validate_json(sys.argv[1]))
    listener = socket.create_server(("127.0.0.1", 0))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        answer = await replica(Request(scope, receive))
        await answer(scope, receive, send)

    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off")).run(sockets=[listener])


if __name__ == "__main__":
    main()
