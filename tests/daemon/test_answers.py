"""What an answer of /v1/predict says of itself: confidence, hold, why, its token, and what its correction becomes."""

import base64
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

import plora
from daemon.answer_token import CONTEXT, LASTS, Answered, AnswerTokens, WrongAnswerToken
from daemon.settings import Settings
from policies.hold import Doubt
from storage.sealing import seal_message
from tests.daemon.conftest import NOW, World, example, open_world
from tests.plora import toys

TEXT = "the soup was good and the bed"


@dataclass
class Asking:
    world: World
    basis: plora.Basis

    def predict(self, *questions: tuple[str, str], why: bool = False):
        inputs = [{"user": user, "text": text} | ({"why": True} if why else {}) for user, text in questions]
        return self.world.client.post("/v1/predict", json={"inputs": inputs}, headers=self.world.token())

    def answer(self, user: str = "ann", **more) -> dict:
        response = self.predict((user, TEXT), **more)
        assert response.status_code == 200, response.text
        return response.json()["answers"][0]

    def correct(self, **body):
        return self.world.client.post("/v1/corrections", json=body, headers=self.world.token())


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    toys.bert().save_pretrained(folder)
    toys.tokenizer(framed=True).save_pretrained(folder)
    return folder


def asking(settings: Settings, folder: Path, report: str = "{}") -> Iterator[Asking]:
    base = plora.load(str(folder))
    basis = toys.loud(toys.basis_on(base.module, base.fingerprint))
    for world in open_world(replace(settings, model=str(folder), default_consent=True)):
        store = world.service.parts.store
        store.open_basis(world.tenant, "main", "", NOW)
        claimed = store.claim_basis("test", 60, NOW)
        store.finish_basis(claimed.id, claimed.epoch, basis.fingerprint, basis.base, plora.dumps(basis), report, NOW)
        for at, text in enumerate(("the soup was good", "the very bad bed", "the staff")):
            world.post(example(at, "ann", data={"text": text, "label": toys.LABELS[at % 2]}))
        adapter = plora.Adapter.of(basis, toys.vectors(1)[0])
        newest = store.events(world.internal_id("ann"))[-1].seq
        world.give_adapter("ann", plora.dumps(adapter), basis.fingerprint, watermark=newest)
        yield Asking(world, basis)


@pytest.fixture
def open_asking(settings, folder) -> Iterator[Asking]:
    yield from asking(settings, folder)


@pytest.fixture
def strict(settings, folder) -> Iterator[Asking]:
    """A daemon that holds whatever is not almost certain."""
    yield from asking(replace(settings, hold=Doubt(min_confidence=0.999)), folder)


def test_an_answer_says_who_spoke_and_how_sure_it_is(open_asking):
    personal, generic = open_asking.answer(), open_asking.answer("nobody")
    assert (personal["version"], personal["known_user"], personal["generic"]) == (1, True, False)
    assert (generic["version"], generic["known_user"], generic["generic"]) == (None, False, True)
    assert personal["held"] is False
    assert personal["hold"] is None
    assert personal["confidence"] == max(personal["probabilities"].values())
    assert personal["answer"] != generic["answer"]


def test_the_basis_says_how_sure_answers_should_be(settings, folder):
    [plain] = [each.answer() for each in asking(settings, folder)]
    told = '{"calibration": {"temperature": 4.0, "answers": 100}}'
    [calm] = [each.answer() for each in asking(replace(settings, data_dir=settings.data_dir / "b"), folder, told)]
    assert calm["label"] == plain["label"]
    assert 0.5 <= calm["confidence"] < plain["confidence"]
    wanted = plora.Calibration(4.0).of(plain["probabilities"])
    assert calm["probabilities"] == pytest.approx(wanted, abs=1e-6)


def test_an_unsure_answer_is_held_and_its_correction_teaches(strict):
    held = strict.answer()
    assert held["held"] is True
    assert held["label"] is None
    assert held["hold"]["code"] == "low_confidence"
    assert [each["label"] for each in held["hold"]["alternatives"]] == sorted(
        held["probabilities"], key=held["probabilities"].get, reverse=True
    )
    before = strict.world.counts()
    assert strict.correct(answer=held["answer"], label=toys.LABELS[0]).json()["outcome"] == "stored"
    assert strict.correct(answer=held["answer"], label=toys.LABELS[0]).json()["outcome"] == "duplicate"
    assert strict.correct(answer=held["answer"], label=toys.LABELS[1]).status_code == 409
    assert strict.world.counts() == before + 1
    user = strict.world.internal_id("ann")
    content = strict.world.service.parts.store.events(user)[-1].content.decode()
    assert TEXT in content


def test_a_given_answer_is_corrected_with_its_text(open_asking):
    given = open_asking.answer()
    refused = open_asking.correct(answer=given["answer"], label=toys.LABELS[0])
    assert (refused.status_code, refused.json()["code"]) == (422, "no_text")
    assert open_asking.correct(answer=given["answer"], label=toys.LABELS[0], text=TEXT).status_code == 202


@pytest.mark.parametrize(
    ("user", "change", "status", "code"),
    [
        ("nobody", {"text": TEXT}, 422, "nobodys_answer"),
        ("ann", {"answer": "abc"}, 404, "wrong_answer"),
        ("ann", {"label": "unheard of", "text": TEXT}, 422, "unknown_label"),
        ("ann", {"label": toys.LABELS[0], "text": "é" * 20_000}, 422, "field_too_long"),
        ("ann", {"label": ""}, 422, "wrong_request"),
        ("ann", {"extra": 1}, 422, "wrong_request"),
    ],
)
def test_corrections_that_nobody_can_learn_from_are_refused(open_asking, user, change, status, code):
    body = {"answer": open_asking.answer(user)["answer"], "label": toys.LABELS[0]} | change
    refused = open_asking.correct(**body)
    assert (refused.status_code, refused.json()["code"]) == (status, code)


def test_a_forgotten_users_answer_can_not_be_corrected(strict):
    held = strict.answer()
    strict.world.client.delete("/v1/users/ann", headers=strict.world.token()).raise_for_status()
    assert strict.correct(answer=held["answer"], label=toys.LABELS[0]).status_code == 404


def test_why_names_the_users_own_examples(open_asking):
    late = example(9, "ann", data={"text": "came after the version was made", "label": toys.LABELS[0]})
    open_asking.world.post(late)
    why = open_asking.answer(why=True)["why"]
    assert len(why["moved_by"]) == 3
    assert {each["text"] for each in why["moved_by"]} == {"the soup was good", "the very bad bed", "the staff"}
    sizes = [abs(each["nats"]) for each in why["moved_by"]]
    assert sizes == sorted(sizes, reverse=True)
    assert why["from_generic_nats"] > 0
    assert why["generic_label"] in toys.LABELS
    assert open_asking.answer("nobody", why=True)["why"]["moved_by"] == []
    assert open_asking.answer()["why"] is None


def test_reasons_for_too_many_answers_are_refused(open_asking):
    refused = open_asking.predict(*[("ann", TEXT)] * 17, why=True)
    assert (refused.status_code, refused.json()["code"]) == (413, "too_many_reasons")


def test_nothing_of_it_is_logged(strict):
    held = strict.answer()
    strict.correct(answer=held["answer"], label=toys.LABELS[0])
    assert "soup" not in strict.world.log.getvalue()
    assert held["answer"][:20] not in strict.world.log.getvalue()


def answered(**changes) -> Answered:
    values = {"id": "1", "user": "u", "version": 2, "digest": "d", "rollout": None, "arm": None, "label": "good"}
    return Answered(**values | {"held": False, "at": NOW, "text": None} | changes)


def test_a_token_opens_for_its_tenant_and_while_it_lasts():
    tokens = AnswerTokens(lambda tenant: tenant.encode().ljust(32, b"0"))
    token = tokens.seal("a", answered(text="ein Text \udc80"))
    assert tokens.open("a", token, NOW) == answered(text="ein Text \udc80")
    for tenant, sent, now in (
        ("b", token, NOW),
        ("a", token[:-2], NOW),
        ("a", "*" * 40, NOW),
        ("a", "é" * 40, NOW),
        ("a", "", NOW),
        ("a", "A" * 300_000, NOW),
        ("a", token, NOW + LASTS + timedelta(seconds=1)),
    ):
        with pytest.raises(WrongAnswerToken):
            tokens.open(tenant, sent, now)
    newer = seal_message(b"a".ljust(32, b"0"), CONTEXT, zlib.compress(b'{"id": "1", "at": 0, "unheard": "of"}'))
    with pytest.raises(WrongAnswerToken):
        tokens.open("a", base64.urlsafe_b64encode(newer).decode(), NOW)
    assert "good" not in repr(answered(text="secret"))
    assert "secret" not in repr(answered(text="secret"))
