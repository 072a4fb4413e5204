"""What interop refuses: one child for each thing a caller can do about it. A damaged file is an AdapterRejected."""

from plora.errors import PLoRAError


class NotExpressible(PLoRAError):
    """The user cannot be written in that form without changing an answer. `code` is short and stable."""

    def __init__(self, code: str, form: str, why: str) -> None:
        super().__init__(code, form, why)
        self.code, self.form, self.why = code, form, why

    def __str__(self) -> str:
        return f"the form {self.form!r} cannot say this exactly ({self.code}): {self.why}; choose another form"


class NotRepresentable(PLoRAError):
    """A sound PEFT directory that asks for something we do not compute. `option` is PEFT's name for it."""

    def __init__(self, option: str, why: str) -> None:
        super().__init__(option, why)
        self.option, self.why = option, why

    def __str__(self) -> str:
        return f"the PEFT option {self.option!r} cannot be represented here: {self.why}; convert the adapter first"


class NotRecovered(PLoRAError):
    """No vector of this Basis gives what the directory holds. `residual` is relative."""

    def __init__(self, residual: float, most: float) -> None:
        super().__init__(residual, most)
        self.residual, self.most = residual, most

    def __str__(self) -> str:
        return (
            f"the best vector of this basis leaves a residual of {self.residual:.2g}, and {self.most:.2g} at most "
            "passes: import without a basis"
        )


class WouldDropUser(PLoRAError):
    """An engine that would refuse the export or serve it without the user."""

    def __init__(self, engine: str, form: str, why: str) -> None:
        super().__init__(engine, form, why)
        self.engine, self.form, self.why = engine, form, why

    def __str__(self) -> str:
        return f"{self.engine} cannot serve the form {self.form!r}: {self.why}; export another form or use PEFT"


class CanaryFailed(PLoRAError):
    """An engine's answers to the probe are not this user's. `check` is applied, right_user or agrees."""

    def __init__(self, check: str, found: float, needed: float) -> None:
        super().__init__(check, found, needed)
        self.check, self.found, self.needed = check, found, needed

    def __str__(self) -> str:
        said = f"the canary check {self.check!r} found {self.found:.3g}, and {self.needed:.3g} is the bound"
        return f"{said}: do not serve this adapter"


class UselessProbe(PLoRAError):
    """The probe's texts do not tell this user from the others beyond the noise."""

    def __init__(self, found: float, needed: float) -> None:
        super().__init__(found, needed)
        self.found, self.needed = found, needed

    def __str__(self) -> str:
        return (
            f"the probe's answers differ between users by {self.found:.3g}, and more than {self.needed:.3g} is needed "
            "to tell them apart: give other texts"
        )
