"""What our exports say of themselves in their weights' metadata, so that they come back as what they were."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from plora.basis import Basis
from plora.errors import AdapterRejected
from plora.tensorfile import read_json

from .shares import Form

KEY = "plora"
FINGERPRINT = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Note:
    """Which base model and Basis an export was made with, in which form, and how many ranks are the user's own."""

    base: str
    basis: str
    form: Form
    own: int

    @staticmethod
    def of(basis: Basis, form: Form, own: int) -> "Note":
        return Note(basis.base, basis.fingerprint, form, own)

    def written(self) -> dict[str, str]:
        """The metadata of a safetensors file; PEFT asks for its `format`."""
        told = {"base": self.base, "basis": self.basis, "form": self.form.value, "own": self.own}
        return {"format": "pt", KEY: json.dumps(told, sort_keys=True)}


def read_note(metadata: Mapping[str, str]) -> Note | None:
    """None for a file that is not our export. Raises AdapterRejected. It is a hint: what follows from it is checked."""
    if KEY not in metadata:
        return None
    told = read_json(metadata[KEY], "note")
    if not isinstance(told, dict):
        raise AdapterRejected("note", "note", "not an object")
    base, basis, form, own = (told.get(name) for name in ("base", "basis", "form", "own"))
    if not isinstance(base, str) or not isinstance(basis, str) or not all(map(FINGERPRINT.fullmatch, (base, basis))):
        raise AdapterRejected("note", "note", "not fingerprints")
    if type(own) is not int or own < 0:
        raise AdapterRejected("note", "note", "not a count of ranks")
    try:
        return Note(base, basis, Form(form), own)
    except ValueError:
        raise AdapterRejected("note", "note", "an unknown form") from None
