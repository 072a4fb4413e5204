"""The whole path over HTTP with a tiny real model: events, a basis, newcomers, adapters, predictions, forget."""

import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

import plora
from daemon.choices import BasisChoices
from daemon.metric_table import BEATS
from daemon.settings import Settings
from policies.trigger import Limits

WAIT_S = 60
COLOURS = ("red", "blue")
THINGS = ("shoe", "coat", "lamp", "cup", "chair", "bag", "hat", "pen", "box", "mat")
FIRST = ("the", "a", "my")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    words = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *COLOURS, *THINGS, *FIRST)
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = BertConfig(vocab_size=len(words), max_position_embeddings=32, initializer_range=0.3, **sizes)
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.fixture
def settings(tmp_path: Path, model: Path) -> Settings:
    return Settings(
        data_dir=tmp_path / "data",
        keys_dir=tmp_path / "keys",
        trainer="in-process",
        model=str(model),
        max_tokens=16,
        trigger=Limits(min_fresh=12, cooldown_s=0.0),
        basis=BasisChoices(min_users=4, epochs=60),
    )


@pytest.fixture
def running(world) -> Iterator[object]:
    service = world.service
    service.parts.considering.start()
    service.scheduler.start()
    yield world
    service.parts.considering.stop()
    service.scheduler.stop()


def taste(user: int, count: int, seed: int) -> list[tuple[str, str]]:
    """Even users like red things, odd users blue ones."""
    texts = [f"{first} {colour} {thing}" for first in FIRST for colour in COLOURS for thing in THINGS]
    chosen = random.Random(f"{seed}:{user}").sample(texts, count)
    return [(text, "good" if COLOURS[user % 2] in text else "bad") for text in chosen]


def send(world, event, user: str, pairs: list[tuple[str, str]]) -> None:
    events = [event(n, user, data={"text": text, "label": label}) for n, (text, label) in enumerate(pairs)]
    headers = world.token() | {"Content-Type": "application/cloudevents-batch+json"}
    assert world.client.post("/v1/events", json=events, headers=headers).status_code == 202


def wait_until_done(world) -> None:
    assert world.service.parts.considering.wait_until_idle(WAIT_S)
    world.service.scheduler.nudge()
    assert world.service.scheduler.wait_idle(WAIT_S)


def test_events_become_adapters_that_answer_as_their_users(running, event):
    world, operator = running, running.token("operator")
    for user in range(10):
        send(world, event, f"person-{user}", taste(user, 20, seed=0))
    assert world.client.post("/v1/bases", json={}, headers=operator).status_code == 202
    wait_until_done(world)
    (basis,) = world.client.get("/v1/bases", headers=operator).json()["bases"]
    assert basis["state"] == "ready"
    for user in range(4):
        send(world, event, f"late-{user}", taste(user, 16, seed=1))
    wait_until_done(world)

    shown = [world.client.get(f"/v1/users/late-{user}", headers=world.token()).json() for user in range(4)]
    assert [len(each["versions"]) for each in shown] == [1] * 4
    served = [user for user in range(4) if shown[user]["serving"]]
    assert len(served) >= 3
    check_predictions(world, served)
    check_attachable(world, served[0], basis["fingerprint"])
    check_label_set(world, event)
    check_heartbeat(world)
    page = world.client.get("/metrics").text
    assert 'plora_versions_total{decision="promoted"} ' in page
    assert 'plora_unseal_total{kind="event",outcome="ok"} 0.0' not in page
    assert "red" not in world.log.getvalue()
    assert "late-" not in world.log.getvalue()


def check_heartbeat(world) -> None:
    """A beat passes every stage, and is nobody's freshness."""
    waited = re.compile(r"plora_event_to_adapter_seconds_count (\S+)")
    before = waited.findall(world.client.get("/metrics").text)
    assert world.service.heartbeat.beat()
    wait_until_done(world)
    page = world.client.get("/metrics").text
    for stage in BEATS:
        assert re.search(rf'plora_heartbeat_timestamp_seconds{{stage="{stage}"}} [1-9]', page), stage
    assert waited.findall(page) == before
    assert re.search(r"plora_fit_tokens_total [1-9]", page)
    assert re.search(r"plora_base_tokens_per_second [1-9]", page)


def check_predictions(world, served: list[int]) -> None:
    asked = [(user, text, label) for user in served for text, label in taste(user, 10, seed=2)]
    inputs = [{"user": f"late-{user}", "text": text} for user, text, _ in asked]
    inputs.append({"user": "stranger", "text": asked[0][1]})
    answers = world.client.post("/v1/predict", json={"inputs": inputs}, headers=world.token()).json()["answers"]
    *known, stranger = answers
    right = sum(answer["label"] == label for answer, (_, _, label) in zip(known, asked, strict=True))
    assert right >= 0.8 * len(asked)
    assert {answer["version"] for answer in known} == {1}
    assert (stranger["generic"], stranger["version"]) == (True, None)
    assert sum(stranger["probabilities"].values()) == pytest.approx(1, abs=1e-3)


def check_attachable(world, user: int, fingerprint: str) -> None:
    """What hosts fetch is what the library reads."""
    basis = plora.loads_basis(world.client.get(f"/v1/bases/{fingerprint}", headers=world.token()).content)
    adapter = plora.loads_adapter(world.client.get(f"/v1/users/late-{user}/adapter", headers=world.token()).content)
    assert (basis.fingerprint, adapter.basis, adapter.base) == (fingerprint, fingerprint, basis.base)


def check_label_set(world, event) -> None:
    refused = world.post(event(99, "late-0", data={"text": "the red hat", "label": "zanzibar-canary"}))
    assert (refused.status_code, refused.json()["code"]) == (422, "unknown_label")
    assert "none of the 2" in refused.json()["detail"]
    assert "zanzibar" not in refused.text + world.log.getvalue()
