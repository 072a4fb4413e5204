"""What asking a Trainer or a Predictor can raise."""

from daemon.errors import DaemonError


class TrainerError(DaemonError):
    """Root of what asking a Trainer can raise. `code` is short and stable, for metrics and rows."""

    code = "trainer_error"


class TrainerUnavailable(TrainerError):
    """No Trainer took the request: ask again later."""

    code = "trainer_unavailable"

    def __str__(self) -> str:
        return "no trainer can be reached: wait until it has started"


class TrainerLacksKey(TrainerUnavailable):
    """The Trainer has no key of the number that the request names: `newest` is its newest, which we lack."""

    code = "trainer_lacks_key"

    def __init__(self, newest: int) -> None:
        super().__init__(newest)
        self.newest = newest

    def __str__(self) -> str:
        return (
            f"the trainer's newest transport key is number {self.newest}, which is rolled: give it the daemon's newest"
        )


class TrainerLost(TrainerError):
    """A Trainer took the request and never answered: it died, or ran out of time. Ask again."""

    code = "trainer_lost"

    def __str__(self) -> str:
        return "the trainer was lost while it worked: ask again"


class TrainerRefused(TrainerError):
    """The Trainer could not unseal the request, or we not its answer: the two do not hold the same transport key."""

    code = "trainer_refused"

    def __str__(self) -> str:
        return "the trainer and the daemon do not understand each other: give both the same transport key and release"


class TrainerFailed(TrainerError):
    """The Trainer answered that the whole request failed."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code

    def __str__(self) -> str:
        return f"the trainer failed with {self.code}"


class TrainerBusy(TrainerUnavailable):
    """As many requests wait for the model as may."""

    code = "trainer_busy"

    def __str__(self) -> str:
        return "too many requests wait for the model: ask again in a moment"


class TrainerRefuses(TrainerError):
    """What was asked is something that no replica does; `code` says what."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code

    def __str__(self) -> str:
        return REFUSALS.get(self.code, "the request is none that this model can answer")


REFUSALS = {
    "no_chat_template": "the model has no chat template: send a plain prompt to /v1/completions",
    "not_a_language_model": "the basis answers with labels, not with texts: use /v1/predict",
    "prompt_too_long": "the prompt leaves no room for an answer: send a shorter one",
    "wrong_adapter": "the adapter does not belong to the basis it names",
    "wrong_messages": "the model's chat template does not take these messages: see which roles it knows",
}
