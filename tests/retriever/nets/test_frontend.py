import math

import pytest

torch = pytest.importorskip("torch", reason="networks need torch (extra `train`)")

from retriever.nets.frontend import CmvnStatistics, Frontend, FrontendConfig, stack_frames  # noqa: E402


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def stacked_slowly(frames: list[list[float]], num_stacked: int, stride: int) -> list[list[float]]:
    """Copies of the first frame in front, then windows; a window that runs over the end is filled with the last frame."""
    padded = [frames[0]] * ((num_stacked - 1) // 2) + frames
    windows = []
    for number in range(math.ceil(len(frames) / stride)):
        window = padded[number * stride : number * stride + num_stacked]
        window = window + [frames[-1]] * (num_stacked - len(window))
        windows.append([value for frame in window for value in frame])
    return windows


@pytest.mark.parametrize("num_frames", [*range(1, 26), 100])
@pytest.mark.parametrize(("num_stacked", "stride"), [(7, 6), (5, 1), (4, 3), (1, 1)])
def test_stacking_equals_its_definition_at_every_length(num_frames: int, num_stacked: int, stride: int) -> None:
    features = torch.randn(1, num_frames, 3)
    stacked, mask = stack_frames(features, torch.ones(1, num_frames, dtype=torch.bool), num_stacked, stride)
    expected = torch.tensor(stacked_slowly(features[0].tolist(), num_stacked, stride))
    assert mask.all()
    torch.testing.assert_close(stacked[0], expected, atol=0, rtol=0)


def test_one_frame_is_repeated_to_fill_a_window() -> None:
    stacked, _ = stack_frames(torch.tensor([[[1.0, 2.0]]]), torch.ones(1, 1, dtype=torch.bool), 7, 6)
    assert stacked.tolist() == [[[1.0, 2.0] * 7]]


def test_a_padded_batch_stacks_as_each_alone_whatever_the_padding_holds() -> None:
    lengths = (13, 1, 30, 6, 7)
    mask = torch.arange(33)[None] < torch.tensor(lengths)[:, None]
    features = torch.randn(len(lengths), 33, 4).masked_fill(~mask[:, :, None], math.nan)
    frontend = Frontend(FrontendConfig(num_bands=4))
    frontend.set_cmvn(torch.randn(28), torch.rand(28) + 0.5)
    together, together_mask = frontend(features, mask)
    for row, length in enumerate(lengths):
        alone, _ = frontend(features[row : row + 1, :length], mask[row : row + 1, :length])
        num_out = math.ceil(length / 6)
        assert together_mask[row].sum() == num_out == alone.shape[1]
        torch.testing.assert_close(together[row, :num_out], alone[0], atol=0, rtol=0)
        assert (together[row, num_out:] == 0).all()


def test_an_utterance_without_frames_gives_none() -> None:
    frames, mask = Frontend(FrontendConfig(num_bands=2))(torch.ones(1, 9, 2), torch.zeros(1, 9, dtype=torch.bool))
    assert not mask.any()
    assert (frames == 0).all()


def test_the_published_front_end_gives_560_values_every_60_ms() -> None:
    config = FrontendConfig()
    frames, _ = Frontend(config)(torch.randn(2, 100, 80), torch.ones(2, 100, dtype=torch.bool))
    assert frames.shape == (2, 17, 560)
    assert config.dimension == 560


def test_statistics_of_a_set_make_it_mean_0_and_spread_1() -> None:
    config = FrontendConfig(num_bands=3)
    features = torch.randn(4, 60, 3) * torch.tensor([1.0, 5.0, 0.1]) + torch.tensor([0.0, -20.0, 3.0])
    mask = torch.arange(60)[None] < torch.tensor([60, 41, 7, 55])[:, None]
    statistics = CmvnStatistics(config.dimension)
    for half in (slice(0, 1), slice(1, 4)):
        statistics.add(*stack_frames(features[half], mask[half], config.num_stacked, config.stride))
    frontend = Frontend(config)
    frontend.set_cmvn(*statistics.shift_and_scale())
    frames, frame_mask = frontend(features, mask)
    real = frames[frame_mask]
    assert statistics.num_frames == len(real)
    torch.testing.assert_close(real.mean(dim=0), torch.zeros(21), atol=1e-4, rtol=0)
    torch.testing.assert_close(real.std(dim=0, correction=0), torch.ones(21), atol=1e-4, rtol=0)


def test_a_band_that_never_changes_stays_finite() -> None:
    statistics = CmvnStatistics(2)
    statistics.add(torch.full((1, 5, 2), 7.0), torch.ones(1, 5, dtype=torch.bool))
    assert all(torch.isfinite(values).all() for values in statistics.shift_and_scale())


def test_statistics_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="0 frames"):
        CmvnStatistics(2).shift_and_scale()


def test_the_normalisation_travels_with_the_weights() -> None:
    config = FrontendConfig(num_bands=2)
    frontend, other = Frontend(config), Frontend(config)
    frontend.set_cmvn(torch.randn(14), torch.rand(14))
    other.load_state_dict(frontend.state_dict())
    features, mask = torch.randn(1, 20, 2), torch.ones(1, 20, dtype=torch.bool)
    torch.testing.assert_close(other(features, mask)[0], frontend(features, mask)[0], atol=0, rtol=0)
