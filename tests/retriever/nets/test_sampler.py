import math

import pytest

torch = pytest.importorskip("torch", reason="networks need torch (extra `train`)")

from retriever.nets.sampler import Glanced, GlancingSampler, SamplerConfig  # noqa: E402

LENGTHS = (9, 4, 12, 1)
WIDTH, WORDS, CHANNELS = 12, 20, 5


class Batch:
    """Random embeddings, targets, and predictions with the given number of errors in each sound."""

    def __init__(self, *num_errors: int, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.mask = torch.arange(WIDTH)[None] < torch.tensor(LENGTHS)[:, None]
        self.acoustic = torch.randn(len(LENGTHS), WIDTH, CHANNELS, generator=generator)
        self.rows = torch.randn(WORDS, CHANNELS, generator=generator)
        self.targets = torch.randint(0, WORDS, self.mask.shape, generator=generator).masked_fill(~self.mask, -1)
        wrong = torch.arange(WIDTH)[None] < torch.tensor(num_errors)[:, None]
        self.predicted = torch.where(wrong, (self.targets + 1) % WORDS, self.targets)
        self.predicted[~self.mask] = 3  # padding differs too, and must not count

    def glance(self, ratio: float, seed: int = 0) -> Glanced:
        generator = torch.Generator().manual_seed(seed)
        sampler = GlancingSampler(SamplerConfig(ratio))
        return sampler(self.acoustic, self.predicted, self.targets, self.mask, self.rows, generator)


def test_without_errors_nothing_is_replaced() -> None:
    batch = Batch(0, 0, 0, 0)
    glanced = batch.glance(1.0)
    assert not glanced.replaced.any()
    assert torch.equal(glanced.embeddings, batch.acoustic * batch.mask[..., None])


def test_ratio_one_with_all_wrong_shows_every_true_token() -> None:
    batch = Batch(*LENGTHS)
    glanced = batch.glance(1.0)
    assert torch.equal(glanced.replaced, batch.mask)
    assert torch.equal(glanced.embeddings[batch.mask], batch.rows[batch.targets[batch.mask]])
    assert not glanced.embeddings[~batch.mask].any()


@pytest.mark.parametrize("ratio", [0.0, 0.29, 0.5, 0.75, 1.0])
def test_the_number_replaced_follows_the_errors(ratio: float) -> None:
    errors = (7, 2, 10, 1)
    glanced = Batch(*errors).glance(ratio)
    assert glanced.num_errors.tolist() == list(errors)
    assert glanced.replaced.sum(dim=1).tolist() == [math.floor(round(ratio * num, 6)) for num in errors]


def test_a_product_that_rounding_makes_too_small_is_not_floored_down() -> None:
    mask = torch.ones(1, 100, dtype=torch.bool)
    targets = torch.zeros(1, 100, dtype=torch.int64)
    sampler = GlancingSampler(SamplerConfig(0.29))
    glanced = sampler(torch.zeros(1, 100, 1), targets + 1, targets, mask, torch.ones(2, 1), torch.Generator().manual_seed(0))
    assert math.floor(0.29 * 100) == 28
    assert glanced.replaced.sum() == 29


def test_each_position_is_either_the_sound_s_or_the_true_row() -> None:
    batch = Batch(9, 3, 6, 1)
    glanced = batch.glance(0.5)
    for b, n in batch.mask.nonzero().tolist():
        expected = batch.rows[batch.targets[b, n]] if glanced.replaced[b, n] else batch.acoustic[b, n]
        assert torch.equal(glanced.embeddings[b, n], expected)


def test_only_real_positions_are_drawn_and_all_of_them_alike() -> None:
    batch = Batch(3, 2, 4, 1)
    counts = torch.zeros(batch.mask.shape)
    for seed in range(400):
        counts += batch.glance(0.5, seed).replaced
    assert not counts[~batch.mask].any()
    for row, length, num in zip(counts, LENGTHS, (1, 1, 2, 0), strict=True):  # right positions as often as wrong ones
        expected = 400 * num / length
        assert ((row[:length] - expected).abs() <= 5 * math.sqrt(expected) + 1e-9).all()


def test_a_generator_s_seed_decides() -> None:
    batch = Batch(9, 4, 12, 1)
    first = batch.glance(0.5, seed=1)
    torch.manual_seed(123)  # the global one has no say
    assert torch.equal(first.replaced, batch.glance(0.5, seed=1).replaced)
    assert not torch.equal(first.replaced, batch.glance(0.5, seed=2).replaced)


def test_the_gradient_goes_to_rows_where_replaced_and_to_the_sound_elsewhere() -> None:
    batch = Batch(9, 4, 12, 1)
    batch.acoustic.requires_grad_()
    batch.rows.requires_grad_()
    glanced = batch.glance(0.5)
    glanced.embeddings.sum().backward()
    kept = batch.mask & ~glanced.replaced
    assert torch.equal(batch.acoustic.grad, kept[..., None].expand_as(batch.acoustic).float())
    shown = torch.bincount(batch.targets[glanced.replaced], minlength=WORDS).float()
    assert torch.equal(batch.rows.grad, shown[:, None].expand_as(batch.rows))


@pytest.mark.parametrize("ratio", [-0.1, 1.1, math.nan])
def test_a_ratio_outside_0_to_1_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        SamplerConfig(ratio)
