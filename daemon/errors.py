"""What the daemon itself refuses. A sentence here names fields, counts and limits, never what was sent."""


class DaemonError(Exception):
    """Anything the daemon refuses; its text is one sentence that says what to do."""


class EventRefused(DaemonError):
    """An event that is not stored: `code` is stable and machine-readable, `sentence` is for people."""

    status = 400

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(code, sentence)
        self.code, self.sentence = code, sentence

    def __str__(self) -> str:
        return self.sentence


class MalformedEvent(EventRefused):
    """Not a CloudEvent: wrong JSON, a missing or wrong attribute."""


class EventTooLarge(EventRefused):
    """Larger than the daemon reads."""

    status = 413


class UnsupportedMediaType(EventRefused):
    """Not sent as a CloudEvent in a mode that the daemon reads."""

    status = 415


class UnacceptableEvent(EventRefused):
    """A well-formed CloudEvent whose type or data the daemon cannot use."""

    status = 422


class ForbiddenEvent(EventRefused):
    """An event that this caller may not send."""

    status = 403


class TooManyEvents(EventRefused):
    """More events of one user than are let in; sent again later, it is taken."""

    status = 429
