"""The endpoints for clients of OpenAI's API, asked by the official client over real HTTP."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import openai
import pytest

import plora
from daemon.settings import Settings
from tests.daemon.conftest import World, example, open_world
from tests.daemon.serving import listening
from tests.plora import toys

TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{{ m.content }} {% endfor %}"
)
TOKENS = 16
BAD, UNFIT = openai.BadRequestError, openai.UnprocessableEntityError
ASKED = [{"role": "user", "content": "the soup was good and the bed"}]


@dataclass
class Served:
    """A daemon behind a port, with two users whose adapters write different texts."""

    url: str
    world: World
    host: str

    def client(self, **options) -> openai.OpenAI:
        return openai.OpenAI(base_url=self.url, api_key=options.pop("key", self.host), max_retries=0, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A tiny language model that knows a form for conversations."""
    folder = tmp_path_factory.mktemp("gpt2")
    toys.gpt2().save_pretrained(folder)
    tokenizer = toys.tokenizer(framed=False)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def served(folder, tmp_path_factory) -> Iterator[Served]:
    place = tmp_path_factory.mktemp("daemon")
    settings = Settings(
        data_dir=place / "data",
        keys_dir=place / "keys",
        trainer="in-process",
        model=str(folder),
        model_kind="causal-lm",
        default_consent=True,
    )
    base = plora.load(str(folder), kind=plora.Kind.CAUSAL_LM)
    basis = toys.loud(toys.basis_on(base.module, base.fingerprint, labels=()))
    for world in open_world(settings):
        world.give_basis(plora.dumps(basis), basis.fingerprint, base.fingerprint)
        for number, adapter in enumerate(talkative(base, basis)):
            user = f"ann-{number}"
            world.post(example(1, user))
            world.give_adapter(user, plora.dumps(adapter), basis.fingerprint)
        with listening(world) as url:
            yield Served(url + "/v1", world, world.token()["Authorization"].removeprefix("Bearer "))


def talkative(base: plora.BaseModel, basis: plora.Basis) -> list[plora.Adapter]:
    """Two users who write more than a few words, and not the same ones: half of the tiny vocabulary is no words."""
    users = [plora.Adapter.of(basis, 6 * vector) for vector in toys.vectors(64)]
    texts = [ASKED[0]["content"] + " "] * len(users)
    answers = [each.answer for each in plora.predict(base, basis, texts, users, max_new_tokens=TOKENS)]
    found = {answer: user for answer, user in zip(answers, users, strict=True) if len(answer.split()) > 2}
    return list(found.values())[:2]


def chat(client: openai.OpenAI, **more):
    options = {"model": "plora", "messages": ASKED, "max_tokens": TOKENS, "temperature": 0}
    return client.chat.completions.create(**options | more)


def test_the_field_user_and_the_header_select_the_adapter(served):
    client = served.client()
    texts = {user: chat(client, user=user).choices[0].message.content for user in ("ann-0", "ann-1")}
    assert texts["ann-0"] != texts["ann-1"]
    by_header = chat(client, extra_headers={"X-Plora-User": "ann-1"})
    assert by_header.choices[0].message.content == texts["ann-1"]
    assert by_header.plora["version"] == 1
    assert by_header.plora["known_user"] is True


def test_nobody_and_strangers_are_answered_by_the_generic_model_and_told_so(served):
    client = served.client()
    nobody, stranger = chat(client), chat(client, user="stranger")
    assert nobody.choices[0].message.content == stranger.choices[0].message.content
    assert nobody.plora == stranger.plora == {"version": None, "generic": True, "known_user": False, "arm": None}


def test_a_stream_tells_the_same_text_in_parts(served):
    client = served.client()
    whole = chat(client, user="ann-0")
    parts = list(chat(client, user="ann-0", stream=True, stream_options={"include_usage": True}))
    told = [part.choices[0] for part in parts if part.choices]
    assert "".join(part.delta.content or "" for part in told) == whole.choices[0].message.content
    assert told[0].delta.role == "assistant"
    assert [part.finish_reason for part in told][-1] == whole.choices[0].finish_reason
    assert parts[-1].usage == whole.usage
    assert whole.usage.completion_tokens >= 1
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    assert len(told) > 2


def test_plain_completions_whole_and_in_parts(served):
    client = served.client()
    options = {"model": "main", "prompt": "the room was", "user": "ann-1", "max_tokens": 6, "temperature": 0}
    whole = client.completions.create(**options)
    parts = list(client.completions.create(**options, stream=True))
    assert "".join(part.choices[0].text for part in parts) == whole.choices[0].text != ""


def test_many_at_once_each_as_their_own(served):
    alone = {user: chat(served.client(), user=user).choices[0].message.content for user in ("ann-0", "ann-1", "none")}

    async def ask_all() -> None:
        async with openai.AsyncOpenAI(base_url=served.url, api_key=served.host, max_retries=0) as client:

            async def ask(user: str) -> None:
                stream = await client.chat.completions.create(
                    model="plora", messages=ASKED, max_tokens=TOKENS, temperature=0, user=user, stream=True
                )
                text = "".join([part.choices[0].delta.content or "" async for part in stream if part.choices])
                assert text == alone[user]

            await asyncio.gather(*(ask(user) for user in list(alone) * 8))

    asyncio.run(ask_all())


def test_a_seed_gives_the_same_text_again(served):
    hot = {"temperature": 1.8, "seed": 11, "user": "ann-0"}
    first, again = (chat(served.client(), **hot).choices[0].message.content for _ in range(2))
    assert first == again


def test_without_a_seed_texts_differ(served):
    assert len({chat(served.client(), temperature=2, user="ann-0").choices[0].message.content for _ in range(8)}) > 1


def test_texts_are_counted_once_however_they_are_read(served):
    registry = served.world.service.parts.metrics.registry

    def counted() -> float:
        return registry.get_sample_value("plora_predictions_total", {"kind": "personal"})

    before = counted()
    chat(served.client(), user="ann-0")
    list(chat(served.client(), user="ann-0", stream=True))
    assert counted() == before + 2


def test_stop_strings_end_the_text(served):
    whole = chat(served.client(), user="ann-0").choices[0].message.content
    stop = whole.split()[1]
    cut = chat(served.client(), user="ann-0", stop=[stop])
    assert stop not in cut.choices[0].message.content
    assert cut.choices[0].finish_reason == "stop"


def test_models_are_listed(served):
    assert {model.id for model in served.client().models.list()} == {"plora", "main"}


@pytest.mark.parametrize(
    ("more", "kind", "code", "said"),
    [
        ({"n": 2}, BAD, "wrong_request", "n"),
        (
            {"tools": [{"type": "function", "function": {"name": "f"}}]},
            BAD,
            "wrong_request",
            "tools",
        ),
        ({"logprobs": True}, BAD, "wrong_request", "logprobs"),
        ({"response_format": {"type": "json_object"}}, BAD, "wrong_request", "response_format"),
        ({"temperature": 9}, BAD, "wrong_request", "temperature"),
        ({"messages": []}, BAD, "wrong_request", "messages"),
        ({"user": "a/b"}, BAD, "wrong_user", "user id"),
        ({"user": "ann", "extra_headers": {"X-Plora-User": "bob"}}, BAD, "two_users", "send one"),
        ({"model": "gpt-4"}, openai.NotFoundError, "model_not_found", "plora"),
        (
            {"messages": [{"role": "system", "content": "x"}]},
            UNFIT,
            "wrong_messages",
            "roles",
        ),
        (
            {"messages": [{"role": "user", "content": "soup " * 300}]},
            UNFIT,
            "prompt_too_long",
            "shorter",
        ),
    ],
)
def test_what_is_not_done_is_refused_by_name(served, more, kind, code, said):
    with pytest.raises(kind) as refused:
        chat(served.client(), **more)
    assert refused.value.code == code
    assert said in refused.value.body["message"]


def test_a_wrong_token_is_an_authentication_error(served):
    with pytest.raises(openai.AuthenticationError) as refused:
        chat(served.client(key="plr_wrong"))
    assert refused.value.code == "wrong_token"


def test_whoever_goes_away_in_the_middle_of_a_stream_leaves_the_others_alone(served):
    stream = chat(served.client(), user="ann-0", stream=True, max_tokens=24)
    next(iter(stream))
    stream.close()
    assert chat(served.client(), user="ann-1").choices[0].message.content


def test_a_forgotten_user_is_a_stranger_at_once(served):
    served.world.post(example(1, "gone"))
    assert chat(served.client(), user="gone").plora["known_user"] is True
    served.world.client.delete("/v1/users/gone", headers=served.world.token()).raise_for_status()
    assert chat(served.client(), user="gone").plora["known_user"] is False


def test_a_basis_of_labels_has_no_texts(settings, tmp_path):
    tiny = tmp_path / "bert"
    toys.bert().save_pretrained(tiny)
    toys.tokenizer(framed=True).save_pretrained(tiny)
    base = plora.load(str(tiny))
    basis = toys.basis_on(base.module, base.fingerprint)
    for world in open_world(replace(settings, model=str(tiny), default_consent=True)):
        world.give_basis(plora.dumps(basis), basis.fingerprint, base.fingerprint)
        with listening(world) as url:
            token = world.token()["Authorization"].removeprefix("Bearer ")
            client = openai.OpenAI(base_url=url + "/v1", api_key=token, max_retries=0)
            with pytest.raises(UNFIT) as refused:
                client.completions.create(model="plora", prompt="the soup")
    assert refused.value.code == "not_a_language_model"
