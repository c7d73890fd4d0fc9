import math
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="networks need torch (extra `train`)")
pytest.importorskip("safetensors", reason="weights need safetensors (extra `train`)")

from torch import Tensor, nn  # noqa: E402

from retriever.checkpoint import load_weights, save_weights  # noqa: E402
from retriever.nets.paraformer import BASE, SMALL, ParaformerConfig, SpeechDecoder, SpeechEncoder  # noqa: E402
from retriever.nets.sanm import (  # noqa: E402
    BlockConfig,
    CrossAttention,
    DecoderBlock,
    EncoderBlock,
    Memory,
    SelfAttention,
    sinusoidal_positions,
)

BLOCK = BlockConfig(dimension=8, num_heads=2, feed_forward_dimension=12, num_taps=5)
TINY = ParaformerConfig(input_dimension=6, num_encoder_blocks=3, num_decoder_blocks=2, block=BLOCK)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def masks(*lengths: int, padded: int = 0) -> Tensor:
    """(B, T) of the lengths, with more padding if asked."""
    return torch.arange(max(lengths) + padded)[None] < torch.tensor(lengths)[:, None]


def remembered_slowly(states: Tensor, mask: Tensor, taps: Tensor) -> Tensor:
    """The memory of states (B, T, D) with taps (D, K), frame by frame."""
    result = torch.zeros_like(states)
    before = (taps.shape[1] - 1) // 2
    for b, t, d in torch.cartesian_prod(*(torch.arange(size) for size in states.shape)).tolist():
        if not mask[b, t]:
            continue
        total = states[b, t, d].item()
        for k, tap in enumerate(taps[d].tolist()):
            source = t + k - before
            if 0 <= source < states.shape[1] and mask[b, source]:
                total += tap * states[b, source, d].item()
        result[b, t, d] = total
    return result


def attended_slowly(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, num_heads: int) -> Tensor:
    """Attention of queries (B, N, D) to keys and values (B, T, D), before the output layer."""
    result = torch.zeros_like(query)
    size = query.shape[2] // num_heads
    for b in range(query.shape[0]):
        for head in range(num_heads):
            part = slice(head * size, (head + 1) * size)
            for n in range(query.shape[1]):
                real = [t for t in range(key.shape[1]) if mask[b, t]]
                weights = [math.exp(query[b, n, part] @ key[b, t, part] / math.sqrt(size)) for t in real]
                result[b, n, part] = sum(w * value[b, t, part] for w, t in zip(weights, real, strict=True)) / sum(weights)
    return result


@torch.no_grad()
@pytest.mark.parametrize("num_taps", [1, 4, 5, 11])
def test_memory_equals_its_definition(num_taps: int) -> None:
    memory = Memory(BlockConfig(dimension=3, num_heads=1, num_taps=num_taps)).eval()
    states, mask = torch.randn(2, 7, 3), masks(7, 4)
    expected = remembered_slowly(states, mask, memory.taps.weight[:, 0])
    torch.testing.assert_close(memory(states, mask), expected, atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_self_attention_equals_its_definition() -> None:
    attention = SelfAttention(6, BLOCK).eval()
    states, mask = torch.randn(2, 5, 6), masks(5, 3)
    query, key, value = attention.query_key_value(states).split(8, dim=-1)
    expected = attention.out(attended_slowly(query, key, value, mask, 2)) + remembered_slowly(
        value, mask, attention.memory.taps.weight[:, 0]
    )
    torch.testing.assert_close(attention(states, mask), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_cross_attention_equals_its_definition() -> None:
    attention = CrossAttention(BLOCK).eval()
    tokens, frames, mask = torch.randn(2, 3, 8), torch.randn(2, 6, 8), masks(6, 2)
    key, value = attention.key_value(frames).split(8, dim=-1)
    expected = attention.out(attended_slowly(attention.query(tokens), key, value, mask, 2))
    torch.testing.assert_close(attention(tokens, frames, mask), expected, atol=1e-5, rtol=1e-5)


def test_positions_equal_their_definition() -> None:
    found = sinusoidal_positions(5, 6)
    for t in range(5):
        for i in range(3):
            angle = (t + 1) * 10_000 ** (-i / 2)
            assert found[t, i] == pytest.approx(math.sin(angle), abs=1e-6)
            assert found[t, 3 + i] == pytest.approx(math.cos(angle), abs=1e-6)


@pytest.mark.parametrize("dimension", [2, 7])
def test_positions_of_an_impossible_size_are_refused(dimension: int) -> None:
    with pytest.raises(ValueError, match=f"{dimension} channels"):
        sinusoidal_positions(4, dimension)


def test_heads_that_do_not_divide_the_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="10 channels and 4 heads"):
        BlockConfig(dimension=10, num_heads=4)


@torch.no_grad()
def test_an_encoder_block_normalises_before_and_adds_its_input_if_it_can() -> None:
    mask = masks(4)
    for size in (8, 6):
        block, states = EncoderBlock(size, BLOCK).eval(), torch.randn(1, 4, size)
        attended = block.attention(block.attention_norm(states), mask) + (states if size == 8 else 0)
        wide = block.feed_forward.widen(block.feed_forward_norm(attended)).clamp(min=0)
        torch.testing.assert_close(block(states, mask), attended + block.feed_forward.narrow(wide))


@torch.no_grad()
def test_a_decoder_block_adds_its_input_after_the_memory() -> None:
    block = DecoderBlock(BLOCK).eval()
    tokens, token_mask, frames, frame_mask = torch.randn(1, 3, 8), masks(3), torch.randn(1, 5, 8), masks(5)
    wide = block.feed_forward.norm(block.feed_forward.widen(block.feed_forward_norm(tokens)).clamp(min=0))
    narrow = wide @ block.feed_forward.narrow.weight.T
    expected = tokens + remembered_slowly(block.memory_norm(narrow), token_mask, block.memory.taps.weight[:, 0])
    expected = expected + block.attention(block.attention_norm(expected), frames, frame_mask)
    torch.testing.assert_close(block(tokens, token_mask, frames, frame_mask), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_an_utterance_does_not_depend_on_its_neighbours_or_on_padding() -> None:
    encoder, decoder = SpeechEncoder(TINY).eval(), SpeechDecoder(TINY).eval()
    num_frames, num_tokens = (9, 4, 1), (3, 5, 1)
    frame_mask, token_mask = masks(*num_frames, padded=4), masks(*num_tokens, padded=2)
    frames, tokens = 100 * torch.randn(3, 13, 6), 100 * torch.randn(3, 7, 8)  # the padding holds large numbers too
    states = encoder(frames, frame_mask)
    decoded = decoder(tokens, token_mask, states, frame_mask)
    for row, (t, n) in enumerate(zip(num_frames, num_tokens, strict=True)):
        alone = encoder(frames[row : row + 1, :t], frame_mask[row : row + 1, :t])
        torch.testing.assert_close(states[row, :t], alone[0], atol=1e-5, rtol=1e-4)
        spoken = decoder(tokens[row : row + 1, :n], token_mask[row : row + 1, :n], alone, frame_mask[row : row + 1, :t])
        torch.testing.assert_close(decoded[row, :n], spoken[0], atol=1e-5, rtol=1e-4)
        assert (states[row, t:] == 0).all()
        assert (decoded[row, n:] == 0).all()


@torch.no_grad()
def test_an_utterance_without_frames_gives_numbers() -> None:
    none = torch.zeros(1, 4, dtype=torch.bool)
    states = SpeechEncoder(TINY).eval()(torch.randn(1, 4, 6), none)
    assert torch.isfinite(states).all()
    assert torch.isfinite(SpeechDecoder(TINY).eval()(torch.randn(1, 2, 8), masks(2), states, none)).all()


def test_gradients_are_those_of_the_function() -> None:
    small = BlockConfig(dimension=4, num_heads=2, feed_forward_dimension=5, num_taps=3)
    encoder, decoder = EncoderBlock(4, small).double().eval(), DecoderBlock(small).double().eval()
    mask, token_mask = masks(2, padded=1), masks(2)
    states = torch.randn(1, 3, 4, dtype=torch.float64, requires_grad=True)
    tokens = torch.randn(1, 2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: encoder(x, mask)[mask], states)
    assert torch.autograd.gradcheck(lambda x, y: decoder(y, token_mask, x, mask), (states, tokens))


def test_every_weight_learns() -> None:
    encoder, decoder = SpeechEncoder(TINY), SpeechDecoder(TINY)
    mask, token_mask = masks(6, 4), masks(3, 2)
    states = encoder(torch.randn(2, 6, 6), mask)
    (decoder(torch.randn(2, 3, 8), token_mask, states, mask) * torch.randn(2, 3, 8)).sum().backward()
    still = [name for net in (encoder, decoder) for name, weight in net.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert still == []


def test_weights_saved_and_loaded_are_the_same(tmp_path: Path) -> None:
    nets = nn.ModuleDict({"encoder": SpeechEncoder(TINY), "decoder": SpeechDecoder(TINY)}).eval()
    others = nn.ModuleDict({"encoder": SpeechEncoder(TINY), "decoder": SpeechDecoder(TINY)}).eval()
    save_weights(nets, tmp_path / "nets.safetensors")
    load_weights(others, tmp_path / "nets.safetensors")
    frames, mask, tokens, token_mask = torch.randn(2, 6, 6), masks(6, 4), torch.randn(2, 3, 8), masks(3, 2)
    loaded, saved = (model["decoder"](tokens, token_mask, model["encoder"](frames, mask), mask) for model in (others, nets))
    torch.testing.assert_close(loaded, saved, atol=0, rtol=0)


GOLDEN_STATES = [0.331628, 0.702215, -0.169229, -0.6375, -0.628416, 0.234047, 0.453177, 0.459017]
GOLDEN_DECODED = [-0.458293, 0.494112, 0.530893, 0.908301, -0.432859, -0.10492, -0.478571, -0.051791]


def counting(net: nn.Module, scale: float) -> nn.Module:
    """Fill the weights with sines, which no change of the random numbers or of the initial values can move."""
    with torch.no_grad():
        for number, weight in enumerate(net.parameters()):
            weight.copy_((torch.arange(weight.numel(), dtype=torch.float64) * 0.7 + number).sin().reshape(weight.shape) * scale)
    return net.double().eval()


@torch.no_grad()
def test_a_tiny_model_still_says_what_it_said() -> None:
    encoder, decoder = counting(SpeechEncoder(TINY), 0.5), counting(SpeechDecoder(TINY), 0.5)
    frames = torch.arange(24, dtype=torch.float64).cos().reshape(1, 4, 6)
    tokens = torch.arange(16, dtype=torch.float64).cos().reshape(1, 2, 8)
    states = encoder(frames, masks(4))
    decoded = decoder(tokens, masks(2), states, masks(4))
    assert states[0, 1].tolist() == pytest.approx(GOLDEN_STATES, abs=1e-5)
    assert decoded[0, 1].tolist() == pytest.approx(GOLDEN_DECODED, abs=1e-5)


def millions(net: nn.Module) -> float:
    return sum(weight.numel() for weight in net.parameters()) / 1e6


def test_the_base_size_is_the_published_one() -> None:
    """Encoder 158.0 M and decoder 52.7 M, to the digit given; predictor, output layer, token table and normalisation are not in them."""
    with torch.device("meta"):
        assert millions(SpeechEncoder(BASE)) == pytest.approx(158.0, abs=0.05)
        assert millions(SpeechDecoder(BASE)) == pytest.approx(52.7, abs=0.05)


def test_the_small_size_fits_the_shipped_weights() -> None:
    """At a byte each, 12 M weights leave at least 2 MiB of the 14 MiB that recogniser and language model may take."""
    with torch.device("meta"):
        assert millions(SpeechEncoder(SMALL)) + millions(SpeechDecoder(SMALL)) < 12
