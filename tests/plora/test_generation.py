"""Generation: many users' texts written together, each as if alone, and handed on as they are written."""

import pytest
import torch

import plora
from plora import Adapter, Crew, Engine, Prompt, Sampling
from plora.generation import encode_prompt
from tests.plora import toys
from tests.plora.conftest import Toy

TEXTS = ("the soup was good", "the very bad bed and the view", "view")


def prompts(toy: Toy, **sampling) -> list[Prompt]:
    vectors = toys.vectors(len(TEXTS))
    users = [Adapter.of(toy.basis, 4 * vector) for vector in vectors]
    return [
        Prompt(encode_prompt(toy.base, text), user, Sampling(**({"most_tokens": 12} | sampling)))
        for text, user in zip(TEXTS, [*users[:2], None], strict=True)
    ]


def written(toy: Toy, asked: list[Prompt]) -> list[tuple[str, str | None, int]]:
    """Each row's text from its pieces, why it ended, and its tokens."""
    crew = Crew(Engine(toy.base, toy.basis), asked)
    texts, ends = [""] * len(asked), [(None, 0)] * len(asked)
    while crew.rows:
        for piece in crew.step():
            assert ends[piece.row][0] is None, "a row goes on after its end"
            texts[piece.row] += piece.text
            ends[piece.row] = (piece.finish, piece.tokens)
    return [(text, *end) for text, end in zip(texts, ends, strict=True)]


def test_rows_are_written_as_each_user_alone(gpt2: Toy) -> None:
    asked = prompts(gpt2)
    together = written(gpt2, asked)
    assert together == [written(gpt2, [prompt])[0] for prompt in asked]
    assert all(end in ("stop", "length") for _, end, _ in together)


def test_greedy_text_is_that_of_predict(gpt2: Toy) -> None:
    asked = prompts(gpt2)
    answers = plora.predict(gpt2.base, gpt2.basis, TEXTS, [prompt.user for prompt in asked], max_new_tokens=12)
    assert [text for text, _, _ in written(gpt2, asked)] == [answer.answer for answer in answers]


def test_a_seed_gives_the_same_text_in_any_company_and_another_seed_another(gpt2: Toy) -> None:
    hot = prompts(gpt2, temperature=1.5, top_p=0.9, seed=3)
    first = written(gpt2, hot)
    assert written(gpt2, hot[1:]) == first[1:]
    others = prompts(gpt2, temperature=1.5, top_p=0.9, seed=4)
    assert written(gpt2, others) != first


def test_a_text_ends_before_its_stop_string_and_no_piece_tells_of_it(gpt2: Toy) -> None:
    [whole, *_] = written(gpt2, prompts(gpt2))
    stop = whole[0][2:4]
    [cut, *_] = written(gpt2, prompts(gpt2, stop=(stop,)))
    assert cut[0] == whole[0][: whole[0].index(stop)]
    assert cut[1] == "stop"


def test_whoever_is_dropped_is_written_no_more_and_the_others_are(gpt2: Toy) -> None:
    asked = prompts(gpt2)
    alone = written(gpt2, asked[1:2])[0]
    crew = Crew(Engine(gpt2.base, gpt2.basis), asked)
    crew.step()
    crew.drop(0)
    crew.drop(2)
    text = ""
    crew_rows = []
    while crew.rows:
        pieces = crew.step()
        crew_rows.append(crew.rows)
        assert {piece.row for piece in pieces} <= {1}
        text += "".join(piece.text for piece in pieces)
    assert alone[0].endswith(text)
    assert max(crew_rows) <= 1


def test_what_is_no_language_model_or_too_long_or_of_nobody_is_refused(gpt2: Toy, bert: Toy) -> None:
    with pytest.raises(plora.WrongKind, match="classification"):
        Crew(Engine(bert.base, bert.basis), [])
    with pytest.raises(plora.PromptTooLong, match="tokens"):
        encode_prompt(gpt2.base, "soup " * 10_000)
    with pytest.raises(plora.NoChatTemplate, match="chat template"):
        encode_prompt(gpt2.base, [("user", "hello")])
    strange = Adapter(gpt2.basis.base, "0" * 64, torch.zeros(8))
    with pytest.raises(plora.WrongBasis):
        Crew(Engine(gpt2.base, gpt2.basis), [Prompt((1,), strange)])
    with pytest.raises(plora.InvalidSetting, match="top_p"):
        Sampling(top_p=0)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_user_by_whom_the_model_gives_no_numbers_ends_their_own_text_alone(gpt2: Toy, temperature: float) -> None:
    good = prompts(gpt2, temperature=temperature)
    bad = Prompt(good[0].ids, Adapter.of(gpt2.basis, torch.full((8,), 3e38)), good[0].sampling)
    crew, told = Crew(Engine(gpt2.base, gpt2.basis), [*good, bad]), []
    while crew.rows:
        told += crew.step()
    texts = ["".join(piece.text for piece in told if piece.row == row) for row in range(len(good))]
    assert texts == [text for text, _, _ in written(gpt2, good)]
    assert [(piece.failed, piece.finish, piece.text) for piece in told if piece.row == len(good)] == [(True, None, "")]
    assert not any(piece.failed for piece in told if piece.row < len(good))
