import pytest

torch = pytest.importorskip("torch", reason="networks need torch (extra `train`)")

from retriever.nets.vq import VqAdaptor, VqConfig  # noqa: E402

WORDS, CHANNELS, GAMMA = 11, 4, 0.1


def inputs() -> tuple["torch.Tensor", "torch.Tensor", "torch.Tensor"]:
    """Logits (2, 5, V), mask (2, 5) and table (V, D)."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    # Close together, so that softmax(d / 0.1) is not one-hot and its gradient not zero.
    logits = 0.2 * torch.randn(2, 5, WORDS, dtype=torch.float64, generator=generator)
    return logits, mask, torch.randn(WORDS, CHANNELS, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("with_gradient", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_forward_is_exactly_the_table_s_row_of_the_best_token(with_gradient: bool, dtype: "torch.dtype") -> None:
    logits, mask, table = inputs()
    logits, table = logits.to(dtype).requires_grad_(with_gradient), table.to(dtype)
    out = VqAdaptor(VqConfig())(logits, mask, table)
    assert out.embeddings.dtype == dtype
    assert out.embeddings.requires_grad == with_gradient
    for b, n in mask.nonzero().tolist():
        best = max(range(WORDS), key=lambda v: logits[b, n, v].item())
        assert out.token_ids[b, n] == best
        assert torch.equal(out.embeddings[b, n], table[best])


def test_the_straight_through_gradient_equals_the_formula_by_hand() -> None:
    logits, mask, table = inputs()
    upstream = torch.randn(2, 5, CHANNELS, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    logits.requires_grad_()
    VqAdaptor(VqConfig())(logits, mask, table).embeddings.backward(upstream)
    expected = torch.zeros_like(logits)
    for b, n in mask.nonzero().tolist():
        powers = torch.exp(logits[b, n].detach() / GAMMA)
        p = powers / powers.sum()
        towards = table @ upstream[b, n]  # (V,) d loss / d p
        for v in range(WORDS):
            expected[b, n, v] = p[v] / GAMMA * (towards[v] - (p * towards).sum())
    assert expected[mask].abs().max() > 0.1
    torch.testing.assert_close(logits.grad, expected)


def test_both_gradients_equal_those_of_the_paper_s_expression() -> None:
    logits, mask, table = inputs()
    ours, theirs = [(logits.clone().requires_grad_(), table.clone().requires_grad_()) for _ in range(2)]
    weight = torch.randn(2, 5, CHANNELS, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    (VqAdaptor(VqConfig())(ours[0], mask, ours[1]).embeddings * weight).sum().backward()
    p = torch.softmax(theirs[0] / GAMMA, dim=-1)
    q = torch.nn.functional.one_hot(theirs[0].argmax(dim=-1), WORDS)
    (((q + p - p.detach()) @ theirs[1])[mask] * weight[mask]).sum().backward()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad)


def test_without_quantisation_the_expectation_is_passed_on() -> None:
    logits, mask, table = inputs()
    adaptor = VqAdaptor(VqConfig(quantised=False))
    out = adaptor(logits, mask, table)
    torch.testing.assert_close(out.embeddings[mask], (torch.softmax(logits / GAMMA, dim=-1) @ table)[mask])
    assert torch.autograd.gradcheck(lambda d, w: adaptor(d, mask, w).embeddings, (logits.requires_grad_(), table.requires_grad_()))


def test_padding_changes_nothing_and_gets_no_gradient() -> None:
    logits, mask, table = inputs()
    logits[~mask] = 50.0
    logits.requires_grad_()
    out = VqAdaptor(VqConfig())(logits, mask, table)
    assert not out.embeddings[~mask].any()
    assert not out.token_ids[~mask].any()
    out.embeddings.sum().backward()
    assert not logits.grad[~mask].any()
    short = VqAdaptor(VqConfig())(logits[1:, :3], mask[1:, :3], table)
    assert torch.equal(out.embeddings[1:, :3], short.embeddings)


def test_a_gamma_of_0_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        VqConfig(gamma=0.0)
