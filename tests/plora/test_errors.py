"""Every error survives pickling with its facts and says in a sentence what to do."""

import inspect
import pickle

import pytest

from plora import errors
from plora.errors import PLoRAError

FACTS: dict[str, tuple[object, ...]] = {
    "BaseModelNotFound": ("some/model", "OSError"),
    "WrongModelFile": ("model.safetensors", "aa", "bb"),
    "TargetsNotFound": (("q_proj",), ("query", "value")),
    "WrongBaseModel": ("a" * 64, "b" * 64),
    "WrongBasis": ("a" * 64, "b" * 64),
    "Malformed": ("size", "3 bytes"),
    "AdapterRejected": ("digest", "digest", "it differs"),
    "MalformedAdapter": ("size", "3 bytes"),
    "MalformedBasis": ("A.x", "shape (3,)"),
    "InvalidSetting": ("steps", "1 or more"),
    "MalformedStatistics": ("A.x", "shape (3,)"),
    "UnknownLabel": (5,),
    "WrongRows": (3, 4),
    "WrongShape": ("query", (2, 3), (3, 2)),
    "WrongKind": ("causal-lm",),
    "NoChatTemplate": (),
    "PromptTooLong": (200, 128),
    "NotResident": ((0, 5),),
    "ResidentsFull": (7,),
    "AlreadyAttached": (),
    "NothingToLearn": ("no users",),
    "ChangedPopulation": (),
    "UnorderedLabels": (),
    "MalformedCheckpoint": ("digest", "it differs"),
    "WrongCheckpoint": ("a" * 64, "b" * 64),
}
CLASSES = {name: value for name, value in inspect.getmembers(errors, inspect.isclass) if value is not PLoRAError}


def test_every_error_class_is_tried_here() -> None:
    assert CLASSES.keys() == FACTS.keys()
    assert all(issubclass(error, PLoRAError) for error in CLASSES.values())


@pytest.mark.parametrize("name", FACTS)
def test_an_error_survives_pickling_with_its_facts(name: str) -> None:
    error = CLASSES[name](*FACTS[name])
    back = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(back) is type(error)
    assert back.args == error.args == FACTS[name]
    assert vars(back) == vars(error)
    assert str(back) == str(error)


@pytest.mark.parametrize("name", FACTS)
def test_an_error_speaks_in_a_sentence_with_its_facts(name: str) -> None:
    said = str(CLASSES[name](*FACTS[name]))
    assert len(said.split()) >= 4
    assert not said.startswith("(")
    for fact in FACTS[name]:
        for part in fact if isinstance(fact, tuple) else (fact,):
            assert str(part)[:12] in said


@pytest.mark.parametrize("name", FACTS)
def test_an_error_class_says_what_it_means(name: str) -> None:
    assert (CLASSES[name].__doc__ or "").endswith(".")


def test_every_error_is_to_be_had_from_the_package() -> None:
    import plora  # noqa: PLC0415

    for name, error in CLASSES.items():
        assert getattr(plora, name) is error
    assert all(hasattr(plora, name) for name in plora.__all__)
