"""/v1/predict: each text as its user, what becomes of bad input, and of a host that asks too much or at a bad time."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import openai
import pytest
import torch

import plora
from daemon.limits import Rates
from daemon.settings import Settings
from tests.daemon.conftest import World, example, open_world
from tests.daemon.serving import listening
from tests.plora import toys

CANARY = "zanzibar-canary"
TEXTS = ("the soup was good", "the very bad bed and the staff", "the room")
PEOPLE = ("ann", "bob", "cyd")


@dataclass
class Asking:
    """A daemon with a Basis, three users with adapters that answer differently, and one without."""

    world: World
    basis: plora.Basis

    def post(self, inputs: object, **headers: str):
        body = json.dumps({"inputs": inputs}).encode()
        sent = self.world.token() | {"Content-Type": "application/json"} | headers
        return self.world.client.post("/v1/predict", content=body, headers=sent)

    def answers(self, *questions: tuple[str, str]) -> list[dict]:
        response = self.post([{"user": user, "text": text} for user, text in questions])
        assert response.status_code == 200, response.text
        return response.json()["answers"]

    def counted(self, kind: str) -> float:
        registry = self.world.service.parts.metrics.registry
        return registry.get_sample_value("plora_predictions_total", {"kind": kind}) or 0.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    toys.bert().save_pretrained(folder)
    toys.tokenizer(framed=True).save_pretrained(folder)
    return folder


def asking(settings: Settings, folder: Path) -> Iterator[Asking]:
    base = plora.load(str(folder))
    basis = toys.loud(toys.basis_on(base.module, base.fingerprint))
    for world in open_world(replace(settings, model=str(folder), default_consent=True)):
        world.give_basis(plora.dumps(basis), basis.fingerprint, base.fingerprint)
        for user in (*PEOPLE, "newcomer"):
            world.post(example(1, user, data={"text": TEXTS[0], "label": toys.LABELS[0]}))
        for user, vector in zip(PEOPLE, toys.vectors(len(PEOPLE)), strict=True):
            world.give_adapter(user, plora.dumps(plora.Adapter.of(basis, vector)), basis.fingerprint)
        yield Asking(world, basis)


@pytest.fixture(scope="module")
def quiet(folder, tmp_path_factory) -> Iterator[Asking]:
    """For requests that change nothing."""
    place = tmp_path_factory.mktemp("daemon")
    yield from asking(Settings(data_dir=place / "data", keys_dir=place / "keys", trainer="in-process"), folder)


@pytest.fixture
def changing(settings, folder) -> Iterator[Asking]:
    yield from asking(settings, folder)


def chances(answers: list[dict]) -> list[float]:
    return [answer["probabilities"][toys.LABELS[0]] for answer in answers]


def test_a_mixed_request_answers_each_as_alone_and_in_order(quiet):
    rows = [(user, text) for text in TEXTS for user in (*PEOPLE, "newcomer", "stranger")]
    together, alone = quiet.answers(*rows), [quiet.answers(row)[0] for row in rows]
    assert chances(together) == pytest.approx(chances(alone), abs=1e-5)
    assert [each["version"] for each in together[:5]] == [1, 1, 1, None, None]
    assert [each["known_user"] for each in together[:5]] == [True, True, True, True, False]
    assert len({round(chance, 4) for chance in chances(together[:4])}) == 4, "each of them answers differently"
    assert chances(together)[3] == pytest.approx(chances(together)[4], abs=1e-5)


def test_rolled_back_and_forgotten_users_show_in_the_next_answer(changing):
    before = changing.answers(*((user, TEXTS[0]) for user in (*PEOPLE, "stranger")))
    token = changing.world.token()
    changing.world.client.post("/v1/users/ann/rollback", json={"to": 0}, headers=token).raise_for_status()
    changing.world.client.delete("/v1/users/bob", headers=token).raise_for_status()
    ann, bob, cyd = changing.answers(*((user, TEXTS[0]) for user in PEOPLE))
    assert (ann["version"], ann["generic"], ann["known_user"]) == (None, True, True)
    assert (bob["version"], bob["generic"], bob["known_user"]) == (None, True, False)
    assert chances([ann, bob]) == pytest.approx([chances(before)[3]] * 2, abs=1e-5)
    assert chances([cyd]) == pytest.approx([chances(before)[2]], abs=1e-5)


def test_another_tenant_has_neither_the_users_nor_the_basis(changing):
    store = changing.world.service.parts.store
    other = store.ensure_tenant("other", changing.world.service.parts.now()).id
    foreign = changing.world.caller("predict", tenant=other)
    refused = changing.post([{"user": "ann", "text": TEXTS[0]}], **foreign)
    assert (refused.status_code, refused.json()["code"]) == (409, "no_basis")


WRONG = {
    "no text": ([{"user": "ann"}], 422, "wrong_request"),
    "no user": ([{"text": CANARY}], 422, "wrong_request"),
    "user is null": ([{"user": None, "text": CANARY}], 422, "wrong_request"),
    "user is empty": ([{"user": "", "text": CANARY}], 422, "wrong_request"),
    "user is too long": ([{"user": "x" * 257, "text": CANARY}], 422, "wrong_request"),
    "user with a slash": ([{"user": f"{CANARY}/x", "text": ""}], 400, "wrong_user"),
    "user with a control": ([{"user": f"{CANARY}\n", "text": ""}], 400, "wrong_user"),
    "user of half a character": ([{"user": "\ud800", "text": CANARY}], 422, "wrong_request"),
    "text with half a character": ([{"user": "ann", "text": CANARY + "\ud800"}], 422, "wrong_request"),
    "text is a list": ([{"user": "ann", "text": [CANARY]}], 422, "wrong_request"),
    "text is too long": ([{"user": "ann", "text": CANARY + "x" * 40_000}], 422, "wrong_request"),
    "why is a word": ([{"user": "ann", "text": CANARY, "why": "yes"}], 422, "wrong_request"),
    "a field nobody asked for": ([{"user": "ann", "text": "", CANARY: 1}], 422, "wrong_request"),
    "NaN": ([{"user": "ann", "text": float("nan")}], 400, "not_json"),
    "nested too deep": ([[[[[[[[[[CANARY]]]]]]]]]], 400, "too_deep"),
    "no inputs": ([], 422, "wrong_request"),
    "inputs are an object": ({"user": "ann", "text": CANARY}, 422, "wrong_request"),
    "one input more than may be": ([{"user": "ann", "text": CANARY}] * 257, 413, "too_many_inputs"),
}


@pytest.mark.parametrize(("inputs", "status", "code"), WRONG.values(), ids=WRONG)
def test_a_wrong_request_is_refused_and_answers_nothing(quiet, inputs, status, code):
    before = quiet.counted("personal")
    refused = quiet.post(inputs)
    assert (refused.status_code, refused.json()["code"]) == (status, code)
    assert CANARY not in refused.text
    assert CANARY not in quiet.world.log.getvalue()
    assert quiet.counted("personal") == before


def test_as_many_inputs_as_may_be_are_answered(quiet):
    answers = quiet.answers(*[("ann", TEXTS[0])] * 255, ("bob", TEXTS[0]))
    assert len(answers) == 256
    assert chances(answers[-1:]) == pytest.approx(chances(quiet.answers(("bob", TEXTS[0]))), abs=1e-5)


@pytest.mark.parametrize("text", ["", " \n\t", "\x00", "[MASK] [SEP] [PAD]", "soup " * 2_000])
def test_any_text_is_answered(quiet, text):
    [answer] = quiet.answers(("ann", text))
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [({"Authorization": "Bearer plr_wrong"}, 401, "wrong_token"), ({"Authorization": ""}, 401, "no_token")],
)
def test_without_a_right_token_nothing_is_answered(quiet, headers, status, code):
    refused = quiet.post([{"user": "ann", "text": CANARY}], **headers)
    assert (refused.status_code, refused.json()["code"]) == (status, code)
    assert refused.headers["www-authenticate"].startswith("Bearer")


def test_without_the_scope_nothing_is_answered(quiet):
    refused = quiet.post([{"user": "ann", "text": CANARY}], **quiet.world.caller("events:write"))
    assert (refused.status_code, refused.json()["code"]) == (403, "scope_missing")


def foreign_adapter(folder: Path, base_print: str) -> plora.Adapter:
    """A vector as long as ours, made for another Basis."""
    basis = toys.loud(toys.basis_on(plora.load(str(folder)).module, base_print), seed=9)
    return plora.Adapter.of(basis, toys.vectors(1)[0])


@pytest.mark.parametrize("base", ["ours", "another"])
def test_an_adapter_of_another_basis_or_base_is_refused_and_harms_nobody_else(changing, folder, base):
    ours = changing.basis.base
    adapter = foreign_adapter(folder, ours if base == "ours" else "f" * len(ours))
    before = changing.answers(("bob", TEXTS[0]))
    changing.world.give_adapter("ann", plora.dumps(adapter), changing.basis.fingerprint)
    refused = changing.post([{"user": "ann", "text": TEXTS[0]}])
    assert (refused.status_code, refused.json()["code"]) == (422, "wrong_adapter")
    assert changing.counted("failed") == 1
    assert chances(changing.answers(("bob", TEXTS[0]))) == pytest.approx(chances(before), abs=1e-6)


def test_an_adapter_that_leads_to_no_number_is_no_answer_and_harms_nobody_else(changing):
    vector = torch.full((changing.basis.spec.dimensions,), 3e38)
    adapter = plora.Adapter.of(changing.basis, vector)
    before = changing.answers(("bob", TEXTS[0]))
    changing.world.give_adapter("ann", plora.dumps(adapter), changing.basis.fingerprint)
    refused = changing.post([{"user": "ann", "text": TEXTS[0]}])
    assert refused.status_code == 503
    assert TEXTS[0] not in changing.world.log.getvalue()
    assert chances(changing.answers(("bob", TEXTS[0]))) == pytest.approx(chances(before), abs=1e-6)


@pytest.mark.parametrize("content", [b"no basis at all", None], ids=["not a basis", "of another base"])
def test_a_basis_that_the_model_can_not_serve_is_a_failure_by_name(changing, folder, content):
    foreign = toys.loud(toys.basis_on(plora.load(str(folder)).module, "f" * 64))
    changing.world.give_basis(content or plora.dumps(foreign), foreign.fingerprint, foreign.base)
    failed = changing.post([{"user": "stranger", "text": CANARY}])
    assert failed.status_code == 503
    assert failed.json()["code"] == ("MalformedBasis" if content else "WrongBaseModel")
    assert CANARY not in changing.world.log.getvalue()
    assert changing.answers(("ann", TEXTS[0]))[0]["version"] == 1, "whose adapter is on the one before"


def test_a_host_that_asks_too_much_is_told_when_to_come_again(settings, folder):
    rates = Rates(tenant_per_s=0.01, tenant_burst=20)
    for made in asking(replace(settings, rate=rates), folder):
        refused = made.post([{"user": "ann", "text": TEXTS[0]}] * 30)
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        assert int(refused.headers["Retry-After"]) >= 1
        assert made.counted("personal") == 0
        body = {"model": "plora", "prompt": "the soup"}
        for _ in range(20):
            refused = made.world.client.post("/v1/completions", json=body, headers=made.world.token())
        assert (refused.status_code, refused.json()["error"]["type"]) == (429, "rate_limit_error")
        assert int(refused.headers["Retry-After"]) >= 1


class Elsewhere:
    """What stands where a Predictor should: it answers everything with one status, or hangs up."""

    def __init__(self, status: int | None) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.close_connection = True
                if status is not None:
                    self.send_response(status)
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> str:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self.url

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.mark.parametrize(
    ("status", "code", "come_again"),
    [
        (429, "trainer_busy", True),
        (503, "trainer_unavailable", True),
        (500, "trainer_lost", True),
        (None, "trainer_lost", True),
        (400, "trainer_refused", False),
    ],
)
def test_a_predictor_that_does_not_answer_is_503_in_both_forms(settings, folder, status, code, come_again):
    with Elsewhere(status) as url:
        for made in asking(replace(settings, trainer="ray", trainer_url=url), folder):
            failed = made.post([{"user": "ann", "text": CANARY}])
            assert (failed.status_code, failed.json()["code"]) == (503, code)
            assert ("Retry-After" in failed.headers) == come_again
            assert made.counted("failed") == 1
            token = made.world.token()["Authorization"].removeprefix("Bearer ")
            with listening(made.world) as address:
                client = openai.OpenAI(base_url=address + "/v1", api_key=token, max_retries=0)
                with pytest.raises(openai.InternalServerError) as told:
                    client.completions.create(model="plora", prompt=CANARY, user="ann", stream=True)
            assert (told.value.status_code, told.value.code) == (503, code)
            assert ("Retry-After" in told.value.response.headers) == come_again
            assert made.counted("failed") == 2
            assert CANARY not in made.world.log.getvalue()
