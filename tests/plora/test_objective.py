"""What population training minimises, against formulas written out here, and what mutual information really is."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from plora.objective import consistency_term, feature_term, infomax_term, personalized_dropout
from tests.plora import toys

COUNTS = st.integers(2, 6)


def chances(rows: int, labels: int, seed: int, *, spread: float = 2.0) -> Tensor:
    """(rows, labels) random distributions in float64."""
    draw = torch.Generator().manual_seed(seed)
    return (torch.randn(rows, labels, generator=draw, dtype=torch.float64) * spread).softmax(-1)


def kl(p: Tensor, q: Tensor) -> Tensor:
    return (p * (p.log() - q.log())).sum(-1)


def information(users: Tensor) -> Tensor:
    """I(Y; U) in nats for users equally likely; users: (users, labels)."""
    return kl(users, users.mean(0).expand_as(users)).mean()


def test_personalized_dropout_drops_whole_vectors_and_never_rescales() -> None:
    vectors = toys.vectors(2000)
    kept = personalized_dropout(vectors, 0.3, torch.Generator().manual_seed(0))
    whole = (kept == vectors).all(1)
    none = (kept == 0).all(1)
    assert torch.equal(whole, ~none)
    assert 0.25 < none.float().mean() < 0.35


def test_personalized_dropout_draws_one_number_for_each_row_from_the_given_generator() -> None:
    vectors = toys.vectors(50)
    expected = vectors * (torch.rand(50, 1, generator=torch.Generator().manual_seed(4)) >= 0.5)
    before = torch.random.get_rng_state()
    assert torch.equal(personalized_dropout(vectors, 0.5, torch.Generator().manual_seed(4)), expected)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(("rate", "share"), [(0.0, 1.0), (1.0, 0.0)])
def test_personalized_dropout_at_its_ends_keeps_all_or_nothing(rate: float, share: float) -> None:
    vectors = toys.vectors(64)
    assert torch.equal(personalized_dropout(vectors, rate, torch.Generator()), vectors * share)


def test_a_dropped_row_gives_its_vector_no_gradient() -> None:
    vectors = toys.vectors(50).requires_grad_()
    kept = personalized_dropout(vectors, 0.5, torch.Generator().manual_seed(4))
    (gradient,) = torch.autograd.grad(kept.sum(), vectors)
    assert torch.equal(gradient, (kept != 0).float())


def test_the_feature_term_is_the_mean_over_all_targets_tokens_and_rows() -> None:
    changes = [toys.vectors(6, 4, seed) for seed in range(3)]
    terms = [(change.square().sum(), change.numel()) for change in changes]
    torch.testing.assert_close(feature_term(terms), torch.stack(changes).square().mean())


def test_the_consistency_term_is_the_references_kl_at_temperature_4_without_its_square() -> None:
    personal, generic = toys.vectors(6, 5, 1).double().requires_grad_(), toys.vectors(6, 5, 2).double().requires_grad_()
    p, g = (personal / 4).softmax(-1), (generic / 4).softmax(-1)
    by_hand = kl(p, g).sum() / 6
    found = consistency_term(personal, generic)
    torch.testing.assert_close(found, by_hand, atol=1e-12, rtol=0)
    for mine, theirs in zip(
        torch.autograd.grad(found, (personal, generic)),
        torch.autograd.grad(by_hand, (personal, generic)),
        strict=True,
    ):
        assert mine.abs().sum() > 0
        torch.testing.assert_close(mine, theirs, atol=1e-12, rtol=0)


@given(users=COUNTS, labels=COUNTS, seed=st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_the_consistency_term_is_mutual_information_plus_the_distance_of_the_mean(
    users: int, labels: int, seed: int
) -> None:
    """So minimising it moves user information out: it is no maximiser of mutual information."""
    personal, generic = chances(users, labels, seed), chances(1, labels, seed + 1).expand(users, labels)
    found = consistency_term(4 * personal.log(), 4 * generic.log())
    expected = information(personal) + kl(personal.mean(0), generic[0])
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-9)
    assert found >= information(personal) - 1e-9


@given(users=COUNTS, labels=COUNTS, seed=st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_infomax_over_everyone_is_exactly_the_mutual_information(users: int, labels: int, seed: int) -> None:
    personal = chances(users, labels, seed)
    expected = torch.zeros((), dtype=torch.float64)
    for user in range(users):
        others = [other for other in range(users) if other != user]
        for label in range(labels):
            own, rest = personal[user, label].log()[None], personal[others, label].log()[None]
            expected += personal[user, label] / users * (math.log(users) - infomax_term(own, rest))
    torch.testing.assert_close(expected, information(personal), atol=1e-9, rtol=1e-9)


@given(rows=st.integers(1, 8), others=st.integers(1, 5), seed=st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_the_infomax_bound_never_exceeds_the_number_of_users_told_apart(rows: int, others: int, seed: int) -> None:
    scores = chances(rows, others + 1, seed).log()
    term = infomax_term(scores[:, 0], scores[:, 1:])
    assert term >= 0
    assert math.log(others + 1) - term <= math.log(others + 1)


def test_the_infomax_bound_grows_with_how_well_users_can_be_told_apart() -> None:
    bounds = []
    for apart in (0.0, 0.5, 1.0, 2.0, 8.0):
        own, others = torch.full((4,), apart), torch.zeros(4, 1)
        bounds.append(math.log(2) - float(infomax_term(own, others)))
    assert bounds[0] == pytest.approx(0.0, abs=1e-7)
    assert bounds == sorted(bounds)
    assert bounds[-1] == pytest.approx(math.log(2), abs=1e-3)
