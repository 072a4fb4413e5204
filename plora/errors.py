"""The library's error tree: one child for each thing a caller can do about it."""


class PLoRAError(Exception):
    """Root of every error that plora raises on purpose."""


class BaseModelNotFound(PLoRAError):
    """No model could be loaded under that name."""

    def __init__(self, source: str, cause: str) -> None:
        super().__init__(source, cause)
        self.source, self.cause = source, cause

    def __str__(self) -> str:
        return f"no base model could be loaded from {self.source!r} ({self.cause}); name a Hugging Face id or a folder"


class WrongModelFile(PLoRAError):
    """The weights on disk are not the published ones."""

    def __init__(self, file: str, needed: str, found: str) -> None:
        super().__init__(file, needed, found)
        self.file, self.needed, self.found = file, needed, found

    def __str__(self) -> str:
        return f"{self.file} has SHA-256 {self.found}, but {self.needed} is needed: reinstall the package that ships it"


class TargetsNotFound(PLoRAError):
    """The model has no Linear under the names that a Basis adapts."""

    def __init__(self, needed: tuple[str, ...], present: tuple[str, ...]) -> None:
        super().__init__(needed, present)
        self.needed, self.present = needed, present

    def __str__(self) -> str:
        return f"the base model has no linear module named {list(self.needed)}; it has {list(self.present)}"


class WrongBaseModel(PLoRAError):
    """The Basis or Adapter was trained on another base model."""

    def __init__(self, needed: str, loaded: str) -> None:
        super().__init__(needed, loaded)
        self.needed, self.loaded = needed, loaded

    def __str__(self) -> str:
        return f"base model {self.needed[:12]} is needed, but {self.loaded[:12]} is loaded"


class WrongBasis(PLoRAError):
    """The Adapter belongs to another Basis."""

    def __init__(self, needed: str, attached: str) -> None:
        super().__init__(needed, attached)
        self.needed, self.attached = needed, attached

    def __str__(self) -> str:
        return f"the adapter needs basis {self.needed[:12]}, but {self.attached[:12]} is attached"


class WrongKind(PLoRAError):
    """A Basis of another task than was asked for."""

    def __init__(self, found: str) -> None:
        super().__init__(found)
        self.found = found

    def __str__(self) -> str:
        return f"the basis is one for {self.found}: it answers nothing else"


class PromptTooLong(PLoRAError):
    """A prompt that leaves no room for an answer. Lengths in tokens."""

    def __init__(self, found: int, most: int) -> None:
        super().__init__(found, most)
        self.found, self.most = found, most

    def __str__(self) -> str:
        return f"the prompt has {self.found} tokens, and {self.most} at most leave room for an answer: send less"


class NoChatTemplate(PLoRAError):
    """The model's tokenizer knows no form for conversations."""

    def __str__(self) -> str:
        return "the model has no chat template: send a plain prompt"


class Malformed(PLoRAError):
    """Bytes that are no Adapter or Basis of ours."""

    def __init__(self, check: str, found: str) -> None:
        super().__init__(check, found)
        self.check, self.found = check, found

    def __str__(self) -> str:
        return f"{type(self).__name__}: {self.check}: {self.found}; fetch the file again"


class MalformedAdapter(Malformed):
    """Bytes that are no Adapter."""


class MalformedBasis(Malformed):
    """Bytes that are no Basis."""


class MalformedStatistics(Malformed):
    """Bytes that are no Statistics."""


class AdapterRejected(Malformed):
    """A file of any kind that must not come in. `code` is short, stable and free of what was in the file."""

    def __init__(self, code: str, check: str = "", found: str = "") -> None:
        super().__init__(check or code, found)
        self.args = (code, check, found)
        self.code = code

    def __str__(self) -> str:
        detail = f" ({self.check}: {self.found})" if self.found else ""
        return f"the file is refused as {self.code}{detail}: it is damaged, or not what it should be; make it anew"


class UnknownLabel(PLoRAError):
    """An example's label is not one of the Basis's labels."""

    def __init__(self, known: int) -> None:
        super().__init__(known)
        self.known = known

    def __str__(self) -> str:
        return f"the label is not one of the {self.known} labels of this basis"


class WrongRows(PLoRAError):
    """The batch does not have one row for each user vector."""

    def __init__(self, vectors: int, rows: int) -> None:
        super().__init__(vectors, rows)
        self.vectors, self.rows = vectors, rows

    def __str__(self) -> str:
        return f"{self.vectors} user vectors are in use, but the batch has {self.rows} rows: give one for each row"


class WrongShape(PLoRAError):
    """A tensor does not have the shape its place demands."""

    def __init__(self, name: str, needed: tuple[int, ...], found: tuple[int, ...]) -> None:
        super().__init__(name, needed, found)
        self.name, self.needed, self.found = name, needed, found

    def __str__(self) -> str:
        return f"{self.name} has shape {self.found}, but {self.needed} is needed"


class NotResident(PLoRAError):
    """Rows of a batch whose keys stand for no adapter."""

    def __init__(self, rows: tuple[int, ...]) -> None:
        super().__init__(rows)
        self.rows = rows

    def __str__(self) -> str:
        return f"no adapter is held for rows {list(self.rows)} of the batch: put them first, or give None for generic"


class ResidentsFull(PLoRAError):
    """As many adapters are held as may be."""

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self.most = most

    def __str__(self) -> str:
        return f"{self.most} adapters are held, which is the most there may be: drop some first"


class AlreadyAttached(PLoRAError):
    """The model already carries a Basis."""

    def __str__(self) -> str:
        return "a basis is already attached to this model: detach it first"


class InvalidSetting(PLoRAError):
    """A setting that fitting or training cannot work with."""

    def __init__(self, name: str, needed: str) -> None:
        super().__init__(name, needed)
        self.name, self.needed = name, needed

    def __str__(self) -> str:
        return f"{self.name} must be {self.needed}"


class NothingToLearn(PLoRAError):
    """Population training was given too little."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    def __str__(self) -> str:
        return f"nothing to learn from: {self.what}"


class ChangedPopulation(PLoRAError):
    """A population gave other examples when it was read again."""

    def __str__(self) -> str:
        return "the population is not what it was when first read: give a list, or an object that can be read again"


class UnorderedLabels(PLoRAError):
    """An ordinal link was asked for, but the labels are not all numbers."""

    def __str__(self) -> str:
        return "ordinal labels must be numbers, such as 1 to 5: use the categorical link for names"


class MalformedCheckpoint(Malformed):
    """Bytes that are no Checkpoint."""


class WrongCheckpoint(PLoRAError):
    """The Checkpoint belongs to another population, BaseModel or settings."""

    def __init__(self, needed: str, found: str) -> None:
        super().__init__(needed, found)
        self.needed, self.found = needed, found

    def __str__(self) -> str:
        return f"the checkpoint is of training {self.found[:12]}, but {self.needed[:12]} is asked for: begin anew"
