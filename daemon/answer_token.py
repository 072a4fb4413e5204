"""What an answer is called: a sealed token that says who gave it, so that what becomes of it can be told to us.

Nothing is written when an answer is given. Whoever posts a correction or an outcome sends the token back, and it names
the User, the version and the arm of a rollout that answered; of a held answer also the text, so that a correction is
the label alone. Only the tenant's key opens it. It ends after `LASTS`.
"""

import base64
import json
import secrets
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache

from daemon.errors import DaemonError
from storage.sealing import Unreadable, seal_message, unseal_message

CONTEXT = b"plora/answer/1"
LASTS = timedelta(days=7)
LONGEST = 200_000
"""Characters: the largest text that an event may have, and room for the seal."""


class WrongAnswerToken(DaemonError):
    """What was sent is no token of an answer of this tenant's, or its time is over."""

    def __str__(self) -> str:
        return "this is no answer of the last days: send the `answer` of a prediction as it came"


@dataclass(frozen=True, slots=True)
class Answered:
    """Which answer it was. `user` is the daemon's own id, None where the host named nobody we know."""

    id: str
    user: str | None
    version: int
    digest: str
    rollout: int | None
    arm: str | None
    label: str | None = field(repr=False)
    held: bool
    at: datetime
    text: str | None = field(default=None, repr=False)


class AnswerTokens:
    """Seals and opens tokens, each tenant's under a key of its own."""

    def __init__(self, key_of: Callable[[str], bytes]) -> None:
        self._key_of = cache(key_of)  # a tenant's key never changes

    def seal(self, tenant: str, answered: Answered) -> str:
        """The token, of characters that need no quoting in a URL."""
        fields = asdict(answered) | {"at": answered.at.timestamp()}
        plain = zlib.compress(json.dumps(fields, separators=(",", ":")).encode("utf-8", "surrogatepass"))
        sealed = seal_message(self._key_of(tenant), CONTEXT, plain)
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def open(self, tenant: str, token: str, now: datetime) -> Answered:
        """The answer of a token. Raises WrongAnswerToken."""
        if len(token) > LONGEST:
            raise WrongAnswerToken
        try:
            sealed = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
            plain = unseal_message(self._key_of(tenant), CONTEXT, sealed)
            fields = json.loads(zlib.decompress(plain))
            answered = Answered(**fields | {"at": datetime.fromtimestamp(fields["at"], UTC)})
        except (Unreadable, ValueError, TypeError, KeyError, OverflowError, zlib.error):  # or of another release's form
            raise WrongAnswerToken from None
        if not answered.at - LASTS <= now <= answered.at + LASTS:
            raise WrongAnswerToken
        return answered


def new_id() -> str:
    """A name for one answer, which nobody can guess."""
    return secrets.token_hex(12)
