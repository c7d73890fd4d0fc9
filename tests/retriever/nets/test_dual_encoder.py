import pytest

torch = pytest.importorskip("torch", reason="networks need torch (extra `train`)")

from torch import Tensor  # noqa: E402

from retriever.nets.clsr import count  # noqa: E402
from retriever.nets.dual_encoder import AttentionPooling, DualEncoder, DualEncoderConfig  # noqa: E402
from retriever.nets.frontend import FrontendConfig  # noqa: E402
from retriever.nets.paraformer import ParaformerConfig  # noqa: E402
from retriever.nets.recogniser import Recogniser, RecogniserConfig  # noqa: E402
from retriever.nets.sanm import BlockConfig  # noqa: E402

SPEECH = ParaformerConfig(28, 2, 0, BlockConfig(8, 2, 12, num_taps=3, dropout=0.0))
TINY = DualEncoderConfig(RecogniserConfig(FrontendConfig(4), SPEECH, num_phones=5, tap_block=1), 3, 12, 6)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def sounds(lengths: list[int]) -> tuple[Tensor, Tensor]:
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    return torch.randn(*mask.shape, 4), mask


def test_its_speech_encoder_is_as_large_as_the_shipped_recognisers() -> None:
    with torch.device("meta"):
        net, recogniser = DualEncoder(DualEncoderConfig()), Recogniser(RecogniserConfig())
    assert count(net.encoder) == count(recogniser.encoder)
    assert round(count(net) / 1e6, 1) == 7.7  # 1.1 of it pools and maps to the text encoder's space


def test_it_begins_with_what_the_recogniser_hears() -> None:
    recogniser, net = Recogniser(TINY.recogniser).eval(), DualEncoder(TINY).eval()
    recogniser.frontend.set_cmvn(torch.full((28,), -9.0), torch.full((28,), 0.3))
    net.begin_with(recogniser)
    features, mask = sounds([50, 31])
    torch.testing.assert_close(net.encoder(*net.frontend(features, mask)), recogniser(features, mask).states, atol=0, rtol=0)


def test_vectors_have_length_1_and_do_not_depend_on_padding_or_neighbours() -> None:
    net = DualEncoder(TINY).eval()
    features, mask = sounds([90, 30, 54])
    together = net(features.masked_fill(~mask[:, :, None], 1e3), mask)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(3))
    for row, length in enumerate((90, 30, 54)):
        alone = net(features[row : row + 1, :length], mask[row : row + 1, :length])
        torch.testing.assert_close(together[row], alone[0], atol=1e-5, rtol=1e-4)


def test_each_head_pools_its_own_channels_by_its_own_weights() -> None:
    pooling = AttentionPooling(8, TINY)
    states, mask = torch.randn(1, 5, 8), torch.tensor([[True, True, True, True, False]])
    values, weights = torch.nn.functional.gelu(pooling.widen(states[0])), pooling.attend(states[0])
    expected = []
    for channel in range(12):
        shares = [weights[frame, channel // 4].exp() for frame in range(4)]
        expected.append(sum(share * values[frame, channel] for frame, share in enumerate(shares)) / sum(shares))
    torch.testing.assert_close(pooling(states, mask)[0], torch.stack(expected))


def test_a_sound_without_a_frame_gives_no_nan() -> None:
    net = DualEncoder(TINY).eval()
    features, mask = sounds([24, 24])
    mask[1] = False
    assert torch.isfinite(net(features, mask)).all()
    assert AttentionPooling(8, TINY)(torch.randn(1, 3, 8), torch.zeros(1, 3, dtype=torch.bool)).abs().max() == 0


def test_the_loss_reaches_the_speech_encoders_first_block() -> None:
    net = DualEncoder(TINY)
    net(*sounds([40]))[0, 0].backward()
    gradient = net.get_parameter("encoder.blocks.0.attention.query_key_value.weight").grad
    assert gradient is not None
    assert gradient.abs().max() > 0


def test_heads_must_share_the_channels_evenly() -> None:
    with pytest.raises(ValueError, match="5 heads do not share 768"):
        DualEncoderConfig(num_heads=5)
