"""A Trainer behind HTTP: the sealed bytes to Ray Serve and back."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import httpx

from daemon.messages import BasisProgress, decode_progress
from daemon.telemetry_context import carried
from daemon.trainer_client import SealedTrainer
from daemon.trainer_errors import TrainerBusy, TrainerLacksKey, TrainerLost, TrainerRefused, TrainerUnavailable
from daemon.transport import KEY_UNKNOWN, Purpose, decode_unknown
from storage.transport_keys import Keys

PROGRESS_S = 5.0
UNAVAILABLE = frozenset({502, 503, 504})
BUSY = 429
GENERATE_PATH = "/predict/generate"
"""Under the route of the deployment that predicts."""


class HttpTrainer(SealedTrainer):
    """A Trainer behind HTTP. `url` says where it is now, or None while it is down."""

    def __init__(
        self,
        url: Callable[[], str | None],
        keys: Keys | bytes,
        *,
        timeout_s: float = 1800.0,
        basis_timeout_s: float = 7 * 86_400.0,
    ) -> None:
        super().__init__(keys)
        self._url, self._basis_timeout = url, httpx.Timeout(basis_timeout_s, connect=5.0)
        timeout = httpx.Timeout(timeout_s, connect=5.0)
        self._client = httpx.Client(timeout=timeout, trust_env=False, limits=httpx.Limits(keepalive_expiry=5.0))

    def ready(self) -> bool:
        """Whether it is worth asking."""
        return self._url() is not None

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def progress(self, basis: str) -> BasisProgress | None:
        url = self._url()
        try:
            response = self._client.get(f"{url}/progress/{basis}", timeout=PROGRESS_S) if url else None
            return decode_progress(response.content) if response is not None and response.is_success else None
        except (httpx.HTTPError, RuntimeError, ValueError):
            return None

    def _carry(self, purpose: Purpose, envelope: bytes) -> bytes:
        timeout = self._basis_timeout if purpose is Purpose.BASIS else self._client.timeout
        with _translated():
            response = self._client.post(
                f"{self._address()}/{purpose.value}", content=envelope, timeout=timeout, headers=carried()
            )
        _check(response)
        return response.content

    @contextmanager
    def _open(self, envelope: bytes) -> Iterator[Iterable[bytes]]:
        request = self._client.build_request(
            "POST", f"{self._address()}{GENERATE_PATH}", content=envelope, headers=carried()
        )
        with _translated():
            response = self._client.send(request, stream=True)
        try:
            if response.status_code != httpx.codes.OK:
                with _translated():
                    response.read()
            _check(response)
            yield _chunks(response)
        finally:
            response.close()

    def _address(self) -> str:
        url = self._url()
        if url is None:
            raise TrainerUnavailable
        return url


def _chunks(response: httpx.Response) -> Iterator[bytes]:
    with _translated():
        yield from response.iter_raw()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout):
        raise TrainerUnavailable from None
    except (httpx.HTTPError, httpx.StreamError, RuntimeError):  # RuntimeError: the client was closed meanwhile
        raise TrainerLost from None


def _check(response: httpx.Response) -> None:
    if response.status_code == httpx.codes.OK:
        return
    if response.status_code == KEY_UNKNOWN:
        raise TrainerLacksKey(decode_unknown(response.content))
    if response.status_code == BUSY:
        raise TrainerBusy
    if response.status_code in UNAVAILABLE:
        raise TrainerUnavailable
    raise TrainerRefused if response.is_client_error else TrainerLost
