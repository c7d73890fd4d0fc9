from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="networks need torch (extra `train`)")

from retriever.nets.cif import CifConfig, CifPredictor, Fired, fire_frames, share  # noqa: E402

TINY = CifConfig(dimension=6)


@pytest.fixture
def net() -> CifPredictor:
    torch.manual_seed(0)
    return CifPredictor(TINY).eval()


def sounds(*lengths: int, dimension: int = 6) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Random states (B, T, D), padding included, and their mask."""
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    generator = torch.Generator().manual_seed(sum(lengths))
    return torch.randn(*mask.shape, dimension, generator=generator), mask


def integrate_slowly(states: list[list[float]], weights: list[float], threshold: float) -> tuple[list[list[float]], list[int], list[float]]:
    """Gather one sound frame by frame, as the definition says: embeddings, firing frames, and the token still unfinished."""
    tokens, frames = [], []
    gathered, token = 0.0, [0.0] * len(states[0])
    for frame, (state, weight) in enumerate(zip(states, weights, strict=True)):
        left = weight
        while gathered + left >= threshold:
            used = threshold - gathered
            tokens.append([old + used * new for old, new in zip(token, state, strict=True)])
            frames.append(frame)
            left -= used
            gathered, token = 0.0, [0.0] * len(state)
        gathered += left
        token = [old + left * new for old, new in zip(token, state, strict=True)]
    return tokens, frames, token


def check_against_slow(net: CifPredictor, states: "torch.Tensor", mask: "torch.Tensor", fired: Fired) -> None:
    for b in range(len(states)):
        length = int(mask[b].sum())
        weights = [*fired.weights[b, :length].tolist(), net.config.tail_threshold]
        tokens, frames, _ = integrate_slowly([*states[b, :length].tolist(), [0.0] * TINY.dimension], weights, net.config.threshold)
        assert fired.num_tokens[b] == len(tokens) == fired.mask[b].sum()
        real = fired.mask[b]
        torch.testing.assert_close(fired.embeddings[b, real], torch.tensor(tokens, dtype=states.dtype).reshape(-1, TINY.dimension))
        assert fired.fire_frames[b, real].tolist() == frames
        assert not fired.embeddings[b, ~real].any()
        assert (fired.fire_frames[b, ~real] == -1).all()


@pytest.mark.parametrize("threshold", [1.0, 0.7, 1.6])
@pytest.mark.parametrize("bias", [-2.0, 0.0, 2.0])
@torch.no_grad()
def test_all_at_once_equals_frame_by_frame(net: CifPredictor, threshold: float, bias: float) -> None:
    net = net.double()
    net.config = replace(TINY, threshold=threshold)
    net.output.bias.fill_(bias)
    states, mask = sounds(23, 4, 1, 16)
    fired = net(states.double(), mask)
    check_against_slow(net, states.double(), mask, fired)


@torch.no_grad()
def test_the_weights_follow_their_definition(net: CifPredictor) -> None:
    states, mask = sounds(5)
    weights = net.weigh(states, mask)
    kernel = net.conv.weight  # (D, D, 3)
    for t in range(5):
        hidden = net.conv.bias.clone()
        for offset in (-1, 0, 1):
            if 0 <= t + offset < 5:
                hidden += kernel[:, :, offset + 1] @ states[0, t + offset]
        logit = net.output.weight[0] @ hidden.clamp(min=0) + net.output.bias[0]
        torch.testing.assert_close(weights[0, t], 1 / (1 + torch.exp(-logit)))


@torch.no_grad()
def test_training_fires_exactly_the_target(net: CifPredictor) -> None:
    states, mask = sounds(31, 8, 3, 12)
    target = torch.tensor([9, 8, 7, 1])  # the third has more tokens than frames
    fired = net(states, mask, target)
    assert torch.equal(fired.num_tokens, target)
    assert torch.equal(fired.mask.sum(dim=1), target)
    torch.testing.assert_close(fired.weights.sum(dim=1), target.float())
    torch.testing.assert_close(fired.quantity, net.weigh(states, mask).sum(dim=1))
    assert fired.fire_frames.gather(1, target[:, None] - 1).flatten().tolist() == [30, 7, 2, 11]  # the last frame ends the last token


@torch.no_grad()
def test_scaled_firing_equals_frame_by_frame(net: CifPredictor) -> None:
    states, mask = sounds(19, dimension=6)
    states = states.double()
    fired = net.double()(states, mask, torch.tensor([7]))
    tokens, frames, rest = integrate_slowly(states[0].tolist(), (fired.weights[0] * (1 + 1e-12)).tolist(), 1.0)
    torch.testing.assert_close(fired.embeddings[0], torch.tensor(tokens, dtype=torch.float64))
    assert fired.fire_frames[0].tolist() == frames
    assert max(map(abs, rest)) < 1e-9


@torch.no_grad()
def test_weight_is_conserved() -> None:
    generator = torch.Generator().manual_seed(3)
    weights = torch.rand(4, 40, dtype=torch.float64, generator=generator) * torch.tensor([0.1, 0.5, 1.0, 2.5])[:, None]
    shares = share(weights, num_tokens=120, threshold=1.0)  # more tokens than fire: nothing is left over
    torch.testing.assert_close(shares.sum(dim=1), weights)  # each frame's weight goes somewhere, once
    full = weights.sum(dim=1).floor().long()
    for row, num in zip(shares, full, strict=True):
        torch.testing.assert_close(row[:num].sum(dim=1), torch.ones(int(num), dtype=torch.float64))  # a fired token has just the threshold
        assert row[num].sum() < 1.0
        assert not row[num + 1 :].any()
    assert (shares >= 0).all()


@torch.no_grad()
def test_padding_changes_nothing(net: CifPredictor) -> None:
    states, mask = sounds(14)
    junk = torch.full((1, 5, 6), float("nan"))
    for target in (None, torch.tensor([4])):
        alone = net(states, mask, target)
        padded = net(torch.cat([states, junk], dim=1), torch.nn.functional.pad(mask, (0, 5)), target)
        torch.testing.assert_close(padded.embeddings, alone.embeddings)
        torch.testing.assert_close(padded.weights, torch.nn.functional.pad(alone.weights, (0, 5)))
        assert torch.equal(padded.fire_frames, alone.fire_frames)


@torch.no_grad()
def test_a_sound_does_not_depend_on_its_neighbours(net: CifPredictor) -> None:
    states, mask = sounds(9, 21, 13)
    together = net(states, mask)
    for b, length in enumerate((9, 21, 13)):
        alone = net(states[b : b + 1, :length], mask[b : b + 1, :length])
        num = int(alone.num_tokens)
        assert together.num_tokens[b] == num
        torch.testing.assert_close(together.embeddings[b, :num], alone.embeddings[0])
        assert torch.equal(together.fire_frames[b, :num], alone.fire_frames[0])


@torch.no_grad()
def test_token_times_rise(net: CifPredictor) -> None:
    net.output.bias.fill_(3.0)  # nearly a token a frame
    states, mask = sounds(60, 35)
    fired = net(states, mask)
    for b in range(2):
        frames = fired.fire_frames[b, fired.mask[b]]
        assert len(frames) > 20
        assert (frames.diff() > 0).all()
        assert frames[0] >= 0
        assert frames[-1] <= mask[b].sum()


@torch.no_grad()
def test_the_tail_ends_a_last_token_that_is_more_than_half_done(net: CifPredictor) -> None:
    net.conv.weight.zero_()
    net.conv.bias.zero_()
    net.output.bias.copy_(torch.logit(torch.tensor([0.4])))
    states, mask = sounds(4)
    fired = net(states, mask)  # 1.6 + 0.45
    assert fired.num_tokens.tolist() == [2]
    assert fired.fire_frames.tolist() == [[2, 4]]  # 4 is just after the last frame
    torch.testing.assert_close(fired.embeddings[0, 1], 0.2 * states[0, 2] + 0.4 * states[0, 3])
    net.config = replace(TINY, tail_threshold=0.0)
    assert net(states, mask).num_tokens.tolist() == [1]


@torch.no_grad()
def test_a_sound_too_short_for_a_token_gives_none(net: CifPredictor) -> None:
    net.output.bias.fill_(-5.0)
    states, mask = sounds(2, 3)
    fired = net(states, mask)
    assert fired.embeddings.shape == (2, 0, 6)
    assert fired.fire_frames.shape == fired.mask.shape == (2, 0)


@torch.no_grad()
def test_a_row_without_frames_gives_zeros_and_not_nan(net: CifPredictor) -> None:
    states, mask = sounds(0, 6)
    assert net(states, mask).num_tokens[0] == 0
    fired = net(states, mask, torch.tensor([0, 1]))
    assert torch.isfinite(fired.embeddings).all()
    assert not fired.mask[0].any()
    torch.testing.assert_close(fired.embeddings[1, 0], (fired.weights[1, :, None] * states[1]).sum(dim=0))  # one token: all of it


def test_the_gradient_is_right(net: CifPredictor) -> None:
    net = net.double()
    states, mask = sounds(7, 4)
    states = states.double().requires_grad_()

    def scaled(x: "torch.Tensor") -> tuple["torch.Tensor", "torch.Tensor"]:
        fired = net(x, mask, torch.tensor([3, 2]))
        return fired.embeddings, fired.quantity

    assert torch.autograd.gradcheck(scaled, states)
    assert torch.autograd.gradcheck(lambda x: net(x, mask).embeddings, states)


def test_the_weights_stay_precise_under_16_bits(net: CifPredictor) -> None:
    states, mask = sounds(50)
    fired = net.bfloat16()(states.bfloat16(), mask, torch.tensor([13]))
    assert fired.embeddings.dtype == torch.bfloat16
    assert fired.weights.dtype == torch.float32
    torch.testing.assert_close(fired.weights.sum(), torch.tensor(13.0))


def test_the_paper_s_size_is_known() -> None:
    assert sum(p.numel() for p in CifPredictor(CifConfig()).parameters()) == 512 * 512 * 3 + 512 + 512 + 1


def test_firing_frames_of_weights_by_hand() -> None:
    weights = torch.tensor([[0.5, 0.5, 0.25, 2.0, 0.5]])
    assert fire_frames(weights, torch.ones(1, 5, dtype=torch.bool), 4, 1.0).tolist() == [[1, 3, 3, 5]]
