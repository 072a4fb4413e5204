"""The layer equation h = W x + b + s B (A x + P p), on a Linear and on GPT-2's Conv1D."""

import pytest
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from plora import WrongRows
from plora.layer import PLoRALinear, Rows, shape_of

BATCH, TOKENS, D_IN, D_OUT, RANK, D, SCALE = 3, 5, 12, 9, 4, 7, 1.5


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.4


@pytest.fixture(params=["linear", "linear without bias", "conv1d"])
def layer(request: pytest.FixtureRequest) -> PLoRALinear:
    if request.param == "conv1d":
        base = Conv1D(D_OUT, D_IN)
        base.weight.data = drawn(D_IN, D_OUT, seed=0)
        base.bias.data = drawn(D_OUT, seed=1)
    else:
        base = nn.Linear(D_IN, D_OUT, bias=request.param == "linear")
        base.weight.data = drawn(D_OUT, D_IN, seed=0)
        if base.bias is not None:
            base.bias.data = drawn(D_OUT, seed=1)
    A, B, P = drawn(RANK, D_IN, seed=2), drawn(D_OUT, RANK, seed=3), drawn(RANK, D, seed=4)
    return PLoRALinear(base, A, B, P, scale=SCALE, rows=Rows()).eval()


@pytest.fixture
def x() -> Tensor:
    return drawn(BATCH, TOKENS, D_IN, seed=5)


def straight_line(layer: PLoRALinear, x: Tensor, p: Tensor) -> Tensor:
    """The equation of the paper, one row and one token at a time, in float64."""
    weight = layer.base.weight.double()
    W = weight.T if isinstance(layer.base, Conv1D) else weight
    b = 0 if layer.base.bias is None else layer.base.bias.double()
    A, B, P = layer.A.double(), layer.B.double(), layer.P.double()
    out = torch.zeros(x.shape[0], x.shape[1], D_OUT, dtype=torch.float64)
    for u in range(x.shape[0]):
        for t in range(x.shape[1]):
            xt, pu = x[u, t].double(), p[u].double()
            out[u, t] = W @ xt + b + SCALE * (B @ (A @ xt + P @ pu))
    return out


def test_the_layer_follows_the_papers_equation(layer: PLoRALinear, x: Tensor) -> None:
    p = drawn(BATCH, D, seed=6)
    with layer.rows.use(p):
        found = layer(x)
    torch.testing.assert_close(found.double(), straight_line(layer, x, p), atol=1e-6, rtol=1e-6)


def test_a_user_vector_adds_the_same_amount_at_every_token(layer: PLoRALinear, x: Tensor) -> None:
    with layer.rows.use(drawn(BATCH, D, seed=6)):
        share = layer(x) - layer(torch.zeros_like(x)) - straight_line(layer, x, torch.zeros(BATCH, D)).float()
    torch.testing.assert_close(share, share[:, :1].expand_as(share), atol=1e-5, rtol=0)


def test_no_vector_is_bit_for_bit_the_zero_vector(layer: PLoRALinear, x: Tensor) -> None:
    generic = layer(x)
    with layer.rows.use(torch.zeros(BATCH, D)):
        assert torch.equal(layer(x), generic)
    with layer.rows.use(None):
        assert torch.equal(layer(x), generic)


def test_a_disabled_layer_is_bit_for_bit_its_base(layer: PLoRALinear, x: Tensor) -> None:
    with layer.rows.use(drawn(BATCH, D, seed=6)), layer.rows.disabled():
        assert torch.equal(layer(x), layer.base(x))
    assert not torch.equal(layer(x), layer.base(x))


def test_a_layer_whose_b_is_zero_is_bit_for_bit_its_base_whoever_the_user(layer: PLoRALinear, x: Tensor) -> None:
    layer.B.data.zero_()
    with layer.rows.use(drawn(BATCH, D, seed=6)):
        assert torch.equal(layer(x), layer.base(x))


def test_rows_without_tokens_are_adapted_too(layer: PLoRALinear, x: Tensor) -> None:
    p = drawn(BATCH, D, seed=6)
    with layer.rows.use(p):
        torch.testing.assert_close(layer(x[:, 0]), layer(x)[:, 0], atol=1e-5, rtol=1e-5)


def test_a_vector_count_that_is_not_the_row_count_is_refused(layer: PLoRALinear, x: Tensor) -> None:
    with layer.rows.use(torch.zeros(BATCH + 1, D)), pytest.raises(WrongRows) as caught:
        layer(x)
    assert (caught.value.vectors, caught.value.rows) == (BATCH + 1, BATCH)


def test_one_vector_is_not_silently_shared_by_many_rows(layer: PLoRALinear, x: Tensor) -> None:
    with layer.rows.use(torch.zeros(1, D)), pytest.raises(WrongRows):
        layer(x)


def test_the_vectors_in_use_end_with_the_block_also_when_it_raises(layer: PLoRALinear) -> None:
    outer = torch.zeros(BATCH, D)
    with layer.rows.use(outer):
        with pytest.raises(ZeroDivisionError), layer.rows.use(torch.ones(BATCH, D)), layer.rows.disabled():
            raise ZeroDivisionError
        assert layer.rows.vectors is outer
        assert layer.rows.enabled
    assert layer.rows.vectors is None


def test_a_gradient_reaches_each_rows_own_vector_only(layer: PLoRALinear, x: Tensor) -> None:
    p = drawn(BATCH, D, seed=6).requires_grad_()
    with layer.rows.use(p):
        (gradient,) = torch.autograd.grad(layer(x)[1].sum(), p)
    assert gradient[1].abs().sum() > 0
    assert gradient[0].abs().sum() == gradient[2].abs().sum() == 0


def test_dropout_falls_only_in_training(layer: PLoRALinear, x: Tensor) -> None:
    calm = layer(x)
    layer.dropout = 0.5
    assert torch.equal(layer(x), calm)
    assert not torch.equal(layer.train()(x), calm)


def test_only_linear_modules_have_a_shape() -> None:
    assert shape_of(nn.Linear(3, 5)) == (3, 5)
    assert shape_of(Conv1D(5, 3)) == (3, 5)
    assert shape_of(nn.LayerNorm(3)) is None
    assert shape_of(nn.Conv1d(3, 5, 1)) is None
