"""Where users' vectors start, and in which coordinates they are handed out."""

import dataclasses

import pytest
import torch

import plora
from plora import Example, PopulationSettings, Reach
from plora.errors import UnorderedLabels
from plora.links import Link
from plora.losses import Objective, numbered_batches
from plora.peers import Alone
from plora.spectral import SpectralStart
from plora.whitening import _by_differences, _by_gradients
from plora.windows import Windows, survey
from tests.plora import toys
from tests.plora.conftest import Toy

QUICK = PopulationSettings(
    rank=4,
    dimensions=4,
    epochs=3,
    shared_rate=1e-2,
    user_rate=2e-2,
    last_layers=1,
    reach=Reach.TARGETS,
    label_bias=False,
)


def test_users_start_at_the_same_place_whether_their_table_is_kept_or_not(any_toy: Toy) -> None:
    population = toys.toy_population(20, 6)
    found = survey(population, any_toy.base.kind, Link.CATEGORICAL)
    with plora.attached(any_toy.base, any_toy.fresh) as live:
        windows = Windows(any_toy.base, live.basis, population, found, 30)
        start = SpectralStart(Objective(any_toy.base, live, found, dataclasses.replace(QUICK, kept_bytes=0)), Alone())
        kept, streamed = start.vectors(windows, found)[0], start.vectors(windows, found, table_numbers=0)[0]
    assert kept[:, 0].var() == pytest.approx(1, abs=0.1)
    torch.testing.assert_close(streamed[:, :4], kept[:, :4], atol=1e-3, rtol=1e-3)


def test_the_first_coordinates_matter_most(bert: Toy, trained: plora.Population) -> None:
    """Moving one standard deviation along a coordinate changes predictions by what its information says."""
    bias = trained.basis.spec.bias
    information = trained.basis.tensors["prior.information"][bias:]
    assert bool((information[:-1] >= information[1:]).all())
    assert float(information[0]) > 0
    texts = [example.text for user in toys.toy_population(16, 8) for example in user]
    moved = []
    for coordinate in (0, 7):
        step = torch.zeros(bias + 8)
        step[bias + coordinate] = 0.5
        there, back = (
            plora.predict(bert.base, trained.basis, texts, [plora.Adapter.of(trained.basis, at)] * len(texts))
            for at in (trained.basis.prior_mean + step, trained.basis.prior_mean - step)
        )
        gaps = [abs(a.probabilities["like"] - b.probabilities["like"]) for a, b in zip(there, back, strict=True)]
        moved.append(sum(gaps) / len(gaps))
    assert moved[0] > 2 * moved[1]


def test_the_information_of_a_causal_model_descends_too(any_lm: Toy) -> None:
    made = plora.train_population(any_lm.base, toys.toy_population(6, 4), dataclasses.replace(QUICK, epochs=2))
    information = made.basis.tensors["prior.information"]
    assert information.shape == (4,)
    assert bool((information[:-1] >= information[1:]).all())
    assert float(information[0]) > 0
    assert plora.loads_basis(plora.dumps(made.basis)).fingerprint == made.basis.fingerprint


def test_ordinal_labels_stand_in_the_order_of_their_numbers(bert: Toy) -> None:
    marks = [[Example(e.text, "10" if e.target == "like" else str(1 + n % 9)) for n, e in enumerate(user)]
             for user in toys.toy_population(8, 12)]  # fmt: skip
    settings = dataclasses.replace(QUICK, epochs=6, link=Link.ORDINAL)
    made = plora.train_population(bert.base, marks, settings)
    assert made.basis.labels == tuple(str(n) for n in range(1, 11))
    assert made.basis.spec.link is Link.ORDINAL
    assert made.history[-1] < made.history[0]
    fresh = plora.fresh_basis(bert.base.module, made.basis.spec, 0)
    assert any(not torch.equal(value, fresh.head()[name]) for name, value in made.basis.head().items() if "1." in name)
    with pytest.raises(UnorderedLabels):
        plora.train_population(bert.base, toys.toy_population(4, 4), settings)


def test_slopes_by_gradients_and_by_differences_agree(bert: Toy) -> None:
    population = toys.toy_population(4, 4)
    found = survey(population, bert.base.kind, Link.CATEGORICAL)
    with plora.attached(bert.base, bert.basis) as live:
        (window,) = Windows(bert.base, live.basis, population, found, 99)
        objective = Objective(bert.base, live, found, dataclasses.replace(QUICK, dimensions=8))
        (batch,) = numbered_batches(bert.base, bert.base.kind, dict(enumerate(window.rows)))
        vectors, lower = toys.vectors(16) * 0.1, torch.linalg.cholesky(torch.eye(8) * 2 + 1).double()
        exact, chances = _by_gradients(objective, batch, vectors)
        near, same = _by_differences(objective, batch, vectors, lower)
    torch.testing.assert_close(chances, same)
    torch.testing.assert_close(near.double(), exact.double() @ lower, atol=0.05, rtol=0.05)
