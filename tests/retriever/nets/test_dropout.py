import pytest

torch = pytest.importorskip("torch", reason="networks need torch (extra `train`)")

from retriever.nets.dropout import Dropout  # noqa: E402


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("probability", [0.1, 0.25, 0.5, 0.999])
def test_as_many_values_are_dropped_as_asked_and_the_rest_keep_the_mean(probability: float) -> None:
    dropped = Dropout(probability)(torch.ones(1000, 1001))
    share = min(round(256 * probability), 255) / 256
    assert dropped.eq(0).double().mean().item() == pytest.approx(share, abs=0.003)
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / (1 - share)])
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.03 if probability < 0.9 else 0.1)


def test_no_value_is_favoured_by_its_place() -> None:
    """Eight values share one draw; the highest byte of a number that is never negative would be dropped twice as often."""
    dropped = Dropout(0.5)(torch.ones(400_000)).view(-1, 8)
    assert dropped.eq(0).double().mean(dim=0).tolist() == pytest.approx([0.5] * 8, abs=0.01)


@pytest.mark.parametrize("shape", [(0,), (1,), (7,), (3, 5), (2, 4, 8)])
def test_any_shape_is_kept(shape: tuple[int, ...]) -> None:
    assert Dropout(0.3)(torch.randn(shape)).shape == shape


def test_the_gradient_goes_where_values_were_kept() -> None:
    values = torch.randn(50, 7, requires_grad=True)
    dropped = Dropout(0.4)(values)
    dropped.sum().backward()
    torch.testing.assert_close(values.grad, dropped.detach() / values.detach())


def test_evaluation_and_probability_zero_change_nothing() -> None:
    values = torch.randn(9)
    assert Dropout(0.5).eval()(values) is values
    assert Dropout(0.0)(values) is values


def test_the_same_seed_drops_the_same_values() -> None:
    first = Dropout(0.5)(torch.ones(100))
    torch.manual_seed(0)
    torch.testing.assert_close(Dropout(0.5)(torch.ones(100)), first, atol=0, rtol=0)


def test_half_precision_stays_half_precision() -> None:
    assert Dropout(0.1)(torch.ones(4, dtype=torch.bfloat16)).dtype is torch.bfloat16


@pytest.mark.parametrize("probability", [-0.1, 1.0, float("nan")])
def test_an_impossible_probability_is_refused(probability: float) -> None:
    with pytest.raises(ValueError, match="probability"):
        Dropout(probability)
