import pytest

torch = pytest.importorskip("torch", reason="networks need torch (extra `train`)")

from retriever.nets.frontend import FrontendConfig, stack_frames  # noqa: E402
from retriever.nets.paraformer import ParaformerConfig  # noqa: E402
from retriever.nets.recogniser import Recogniser, RecogniserConfig  # noqa: E402
from retriever.nets.sanm import BlockConfig  # noqa: E402

TINY = RecogniserConfig(
    FrontendConfig(num_bands=4),
    ParaformerConfig(28, 3, 0, BlockConfig(dimension=16, num_heads=2, feed_forward_dimension=24, num_taps=5, dropout=0.0)),
    num_phones=5,
    tap_block=2,
)


@pytest.fixture
def net() -> Recogniser:
    torch.manual_seed(0)
    made = Recogniser(TINY).eval()
    made.frontend.set_cmvn(torch.randn(28), torch.rand(28) + 0.5)
    return made


def test_each_frame_of_60_ms_has_two_distributions_over_phones_and_blank(net: Recogniser) -> None:
    output = net(torch.randn(2, 50, 4), torch.arange(50)[None] < torch.tensor([50, 20])[:, None])
    assert output.log_probs.shape == output.tap_logits.shape == (2, 18, 6)
    assert output.states.shape == (2, 9, 16)
    assert output.mask.sum(dim=1).tolist() == [18, 8]
    torch.testing.assert_close(output.log_probs.exp().sum(dim=-1), torch.ones(2, 18))


def test_the_two_outputs_of_a_frame_follow_one_another(net: Recogniser) -> None:
    output = net(torch.randn(1, 30, 4), torch.ones(1, 30, dtype=torch.bool))
    scores = net.ctc(output.states)  # (1, 5, 12)
    first = torch.log_softmax(scores[:, :, :6], dim=-1)
    second = torch.log_softmax(scores[:, :, 6:], dim=-1)
    torch.testing.assert_close(output.log_probs[:, 0::2], first)
    torch.testing.assert_close(output.log_probs[:, 1::2], second)


def test_a_padded_batch_hears_as_each_alone(net: Recogniser) -> None:
    lengths = (43, 1, 60, 7)
    mask = torch.arange(66)[None] < torch.tensor(lengths)[:, None]
    features = torch.randn(4, 66, 4).masked_fill(~mask[:, :, None], 1e4)
    together = net(features, mask)
    for row, length in enumerate(lengths):
        alone = net(features[row : row + 1, :length], mask[row : row + 1, :length])
        real = alone.log_probs.shape[1]
        assert together.mask[row].sum() == real
        torch.testing.assert_close(together.log_probs[row, :real], alone.log_probs[0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(together.tap_logits[row, :real], alone.tap_logits[0], atol=1e-5, rtol=1e-4)


def test_frames_stacked_outside_are_heard_alike(net: Recogniser) -> None:
    features, mask = torch.randn(2, 40, 4), torch.arange(40)[None] < torch.tensor([40, 13])[:, None]
    inside = net(features, mask)
    outside = net.from_stacked(*stack_frames(features, mask, 7, 6))
    torch.testing.assert_close(outside.log_probs[inside.mask], inside.log_probs[inside.mask], atol=0, rtol=0)


def test_the_tap_reads_after_its_block_and_teaches_no_later_one(net: Recogniser) -> None:
    net(torch.randn(1, 30, 4), torch.ones(1, 30, dtype=torch.bool)).tap_logits.square().sum().backward()
    touched = {name.split(".")[2] for name, value in net.named_parameters() if name.startswith("encoder.blocks") and value.grad is not None}
    assert touched == {"0", "1"}
    assert net.ctc.weight.grad is None


def test_an_encoder_of_another_input_and_a_tap_beyond_the_last_block_are_refused() -> None:
    with pytest.raises(ValueError, match="560"):
        RecogniserConfig(encoder=ParaformerConfig(input_dimension=80))
    with pytest.raises(ValueError, match="tap"):
        RecogniserConfig(tap_block=9)


def test_the_shipped_size_has_6_6_million_weights() -> None:
    with torch.device("meta"):
        num = sum(weights.numel() for weights in Recogniser(RecogniserConfig()).parameters())
    assert num == 6_616_832
