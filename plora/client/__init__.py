"""The client of a plora daemon: for hosts that send events, ask for answers, and plug adapters in themselves.

with plora.client.Client("http://127.0.0.1:8470", token) as daemon:
    daemon.tell("ann", "the soup was cold", "bad")
    [answer] = daemon.predict([("ann", "the soup was hot")])
    with live.use(daemon.adapters(["ann", "bob"])): ...

Needs httpx: `pip install plora[client]`.
"""

from .aio import AsyncClient
from .answers import Answer, Fetched, Reason, Said
from .errors import ClientError, DaemonAway, Refused, Stale
from .sync import Client

__all__ = [
    "Answer",
    "AsyncClient",
    "Client",
    "ClientError",
    "DaemonAway",
    "Fetched",
    "Reason",
    "Refused",
    "Said",
    "Stale",
]
