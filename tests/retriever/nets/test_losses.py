import itertools
import math

import pytest

torch = pytest.importorskip("torch", reason="networks need torch (extra `train`)")

from retriever.nets.losses import (  # noqa: E402
    ContrastiveConfig,
    LossWeights,
    Terms,
    ctc_fits,
    ctc_loss,
    info_nce,
    label_smoothed_cross_entropy,
    mwer_loss,
    quantity_loss,
    same_context,
    sample_hypotheses,
    total_loss,
)

F64 = torch.float64


def noise(*shape: int, seed: int = 0) -> "torch.Tensor":
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def mask_of(width: int, *lengths: int) -> "torch.Tensor":
    return torch.arange(width)[None] < torch.tensor(lengths)[:, None]


# Cross entropy


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_equals_its_definition(smoothing: float) -> None:
    logits, mask = noise(2, 4, 7), mask_of(4, 4, 2)
    targets = torch.tensor([[0, 6, 2, 2], [5, 1, -100, 99]])  # padding holds what it likes
    total = 0.0
    for b, n in mask.nonzero().tolist():
        powers = [math.exp(x) for x in logits[b, n].tolist()]
        for v, power in enumerate(powers):
            wanted = smoothing / 7 + (1 - smoothing) * (v == targets[b, n])
            total -= wanted * math.log(power / sum(powers))
    assert label_smoothed_cross_entropy(logits, targets, mask, smoothing).item() == pytest.approx(total / 6)


def test_cross_entropy_s_gradient_is_right_and_0_in_padding() -> None:
    logits, mask, targets = noise(2, 3, 5).requires_grad_(), mask_of(3, 3, 1), torch.tensor([[1, 2, 3], [4, 0, 0]])
    assert torch.autograd.gradcheck(lambda x: label_smoothed_cross_entropy(x, targets, mask), logits)
    label_smoothed_cross_entropy(logits, targets, mask).backward()
    assert not logits.grad[~mask].any()


def test_cross_entropy_of_nothing_is_0() -> None:
    logits = noise(1, 2, 5).requires_grad_()
    loss = label_smoothed_cross_entropy(logits, torch.zeros(1, 2, dtype=torch.int64), mask_of(2, 0))
    loss.backward()
    assert loss == 0
    assert not logits.grad.any()


# Quantity


def test_the_quantity_loss_counts_tokens_too_many_and_too_few() -> None:
    quantity = torch.tensor([3.5, 9.0, 0.25], dtype=F64, requires_grad=True)
    target = torch.tensor([3, 10, 0])
    assert quantity_loss(quantity, target).item() == pytest.approx((0.5 + 1.0 + 0.25) / 13)
    assert torch.autograd.gradcheck(lambda x: quantity_loss(x, target), quantity)


# Retrieval


def slow_nce(questions: "torch.Tensor", contexts: "torch.Tensor", temperature: float, skip: "torch.Tensor | None" = None) -> float:
    """Question to context, one pair at a time."""
    losses = []
    for i, question in enumerate(questions):
        cosines = [float(question @ context / (question.norm() * context.norm())) for context in contexts]
        kept = [j for j in range(len(contexts)) if j == i or skip is None or not skip[i, j]]
        below = sum(math.exp(cosines[j] / temperature) for j in kept)
        losses.append(-math.log(math.exp(cosines[i] / temperature) / below))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("temperature", [1.0, 0.05])
def test_info_nce_equals_cross_entropy_of_cosines_by_hand(temperature: float) -> None:
    questions, contexts = noise(5, 8), noise(5, 8, seed=1)
    forward, backward = slow_nce(questions, contexts, temperature), slow_nce(contexts, questions, temperature)
    assert abs(forward - backward) > 1e-3  # else the directions could be swapped unseen
    expected = {"question-to-context": forward, "context-to-question": backward, "both": (forward + backward) / 2}
    for direction, value in expected.items():
        assert info_nce(questions, contexts, ContrastiveConfig(temperature, direction)).item() == pytest.approx(value)


def test_the_same_context_twice_is_no_negative() -> None:
    questions, contexts, ids = noise(4, 8), noise(4, 8, seed=1), torch.tensor([7, 9, 7, 8])
    contexts[2] = contexts[0]
    same = same_context(ids)
    assert same.nonzero().tolist() == [[0, 0], [0, 2], [1, 1], [2, 0], [2, 2], [3, 3]]
    config = ContrastiveConfig(0.1, "question-to-context")
    assert info_nce(questions, contexts, config, same).item() == pytest.approx(slow_nce(questions, contexts, 0.1, same))
    config = ContrastiveConfig(0.1, "context-to-question")
    assert info_nce(questions, contexts, config, same).item() == pytest.approx(slow_nce(contexts, questions, 0.1, same.T))


def test_a_batch_of_one_context_only_has_nothing_to_tell_apart() -> None:
    questions, contexts = noise(3, 8).requires_grad_(), noise(1, 8).expand(3, 8)
    loss = info_nce(questions, contexts, ContrastiveConfig(0.02), torch.ones(3, 3, dtype=torch.bool))
    loss.backward()
    assert loss.item() == pytest.approx(0)
    assert not questions.grad.any()


def test_contexts_beyond_the_pairs_are_negatives_of_the_questions_only() -> None:
    questions, contexts = noise(3, 8), noise(5, 8, seed=1)
    forward = info_nce(questions, contexts, ContrastiveConfig(0.1, "question-to-context"))
    assert forward.item() == pytest.approx(slow_nce(questions, contexts, 0.1))
    backward = info_nce(questions, contexts, ContrastiveConfig(0.1, "context-to-question"))
    assert backward.item() == pytest.approx(slow_nce(contexts[:3], questions, 0.1))


def test_info_nce_s_gradient_is_right() -> None:
    questions, contexts, same = noise(3, 4).requires_grad_(), noise(3, 4, seed=1).requires_grad_(), same_context(torch.tensor([1, 2, 1]))
    for direction in ("question-to-context", "context-to-question", "both"):
        config = ContrastiveConfig(0.2, direction)
        assert torch.autograd.gradcheck(lambda q, c, config=config: info_nce(q, c, config, same), (questions, contexts))


def test_a_question_without_its_context_is_refused() -> None:
    with pytest.raises(ValueError, match="each of the 3 questions"):
        info_nce(noise(3, 4), noise(2, 4), ContrastiveConfig())
    with pytest.raises(ValueError, match="above 0"):
        ContrastiveConfig(temperature=0.0)


# MWER


def test_mwer_equals_its_definition_over_real_hypotheses() -> None:
    scores, errors, mask = noise(3, 4), torch.tensor([[0, 2, 3, 1], [4, 4, 9, 9], [5, 5, 5, 5]]), mask_of(4, 4, 2, 0)
    total = 0.0
    for b in range(2):
        num = int(mask[b].sum())
        powers = [math.exp(x) for x in scores[b, :num].tolist()]
        mean = sum(errors[b, :num].tolist()) / num
        total += sum(p / sum(powers) * (w - mean) for p, w in zip(powers, errors[b, :num].tolist(), strict=True))
    assert mwer_loss(scores, errors, mask).item() == pytest.approx(total / 2)  # the third example has none and does not count


def test_mwer_makes_better_hypotheses_likelier() -> None:
    scores = torch.zeros(1, 3, dtype=F64, requires_grad=True)
    mwer_loss(scores, torch.tensor([[0, 1, 5]]), mask_of(3, 3)).backward()
    assert (scores.grad.diff() > 0).all()  # going downhill raises the first most
    assert scores.grad[0, 0] < 0 < scores.grad[0, 2]


def test_mwer_s_gradient_is_right_and_0_without_hypotheses() -> None:
    scores, errors, mask = noise(2, 3).requires_grad_(), torch.tensor([[0, 2, 3], [1, 1, 1]]), mask_of(3, 3, 0)
    assert torch.autograd.gradcheck(lambda x: mwer_loss(x, errors, mask), scores)
    loss = mwer_loss(scores, errors, mask)
    loss.backward()
    assert not scores.grad[1].any()
    assert mwer_loss(scores, errors, mask_of(3, 0, 0)) == 0


def test_hypotheses_come_with_the_probability_of_their_real_tokens() -> None:
    logits, mask = noise(2, 3, 4).requires_grad_(), mask_of(3, 3, 1)
    drawn = sample_hypotheses(logits, mask, 6, torch.Generator().manual_seed(0))
    assert drawn.token_ids.shape == (2, 6, 3)
    assert not drawn.token_ids[1, :, 1:].any()
    known = torch.log_softmax(logits, dim=-1)
    for b, k in itertools.product(range(2), range(6)):
        expected = sum(known[b, n, drawn.token_ids[b, k, n]] for n in range(3) if mask[b, n])
        torch.testing.assert_close(drawn.log_probabilities[b, k], expected)
    drawn.log_probabilities.sum().backward()
    assert logits.grad[mask].any()
    assert not logits.grad[~mask].any()
    again = sample_hypotheses(logits, mask, 6, torch.Generator().manual_seed(0))
    assert torch.equal(again.token_ids, drawn.token_ids)


def test_hypotheses_are_drawn_as_often_as_the_output_says() -> None:
    wanted = torch.tensor([0.7, 0.2, 0.1])
    drawn = sample_hypotheses(wanted.log()[None, None], mask_of(1, 1), 4000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(torch.bincount(drawn.token_ids.flatten()) / 4000, wanted, atol=0.03, rtol=0)


# CTC


def slow_ctc(log_probabilities: "torch.Tensor", target: list[int]) -> float:
    """-log of the sum over every path of frames that collapses to the target; blank is 0."""
    frames, words = log_probabilities.shape
    total = 0.0
    for path in itertools.product(range(words), repeat=frames):
        if [word for word, _ in itertools.groupby(path) if word != 0] == target:
            total += math.exp(sum(log_probabilities[t, word].item() for t, word in enumerate(path)))
    return -math.log(total)


def test_ctc_equals_the_sum_over_all_paths() -> None:
    logits, frame_mask = noise(3, 5, 4), mask_of(5, 5, 4, 3)
    targets, token_mask = torch.tensor([[1, 3, 2], [2, 2, -1], [1, 77, -1]]), mask_of(3, 3, 2, 1)
    known = torch.log_softmax(logits, dim=-1)
    expected = slow_ctc(known[0], [1, 3, 2]) + slow_ctc(known[1, :4], [2, 2]) + slow_ctc(known[2, :3], [1])
    assert ctc_loss(logits, frame_mask, targets, token_mask).item() == pytest.approx(expected / 6)


def test_an_example_too_long_for_ctc_is_told_and_counts_nowhere() -> None:
    logits, frame_mask = noise(2, 4, 4), mask_of(4, 4, 2)
    targets, token_mask = torch.tensor([[1, 3], [2, 2]]), mask_of(2, 2, 2)  # the second needs three frames
    assert ctc_fits(frame_mask, targets, token_mask).tolist() == [True, False]
    alone = ctc_loss(logits[:1], frame_mask[:1], targets[:1], token_mask[:1])
    torch.testing.assert_close(ctc_loss(logits, frame_mask, targets, token_mask), alone)
    logits.requires_grad_()
    ctc_loss(logits, frame_mask, targets, token_mask).backward()
    assert torch.isfinite(logits.grad).all()
    assert not logits.grad[1].any()


def test_ctc_s_gradient_is_right_and_0_in_padding() -> None:
    logits, frame_mask = noise(2, 5, 4).requires_grad_(), mask_of(5, 5, 3)
    targets, token_mask = torch.tensor([[1, 3, 2], [2, 0, 0]]), mask_of(3, 3, 1)
    assert torch.autograd.gradcheck(lambda x: ctc_loss(x, frame_mask, targets, token_mask), logits)
    ctc_loss(logits, frame_mask, targets, token_mask).backward()
    assert not logits.grad[~frame_mask].any()


# The sum


def test_the_paper_s_sum_is_a_third_each() -> None:
    terms = Terms(torch.tensor(3.0), torch.tensor(6.0), torch.tensor(12.0))
    assert total_loss(terms, LossWeights()).item() == pytest.approx(7.0)


def test_each_term_enters_with_its_weight() -> None:
    values = [torch.tensor(v, requires_grad=True) for v in (2.0, 3.0, 5.0, 7.0, 11.0)]
    terms = Terms(*values)
    weights = LossWeights(alpha=0.2, beta=0.3, cross_entropy=0.7, mwer=0.6, ctc=0.1)
    total = total_loss(terms, weights)
    assert total.item() == pytest.approx(0.5 * (0.7 * 2 + 0.6 * 7 + 0.1 * 11) + 0.2 * 3 + 0.3 * 5)
    total.backward()
    assert [v.grad.item() for v in values] == pytest.approx([0.35, 0.2, 0.3, 0.3, 0.05])


def test_a_weighted_term_that_was_not_computed_is_refused() -> None:
    terms = Terms(torch.tensor(1.0), torch.tensor(1.0))
    with pytest.raises(ValueError, match=r"contrastive weighs 0\.333"):
        total_loss(terms, LossWeights())
    assert total_loss(terms, LossWeights(alpha=0.5, beta=0.0)).item() == pytest.approx(1.0)


@pytest.mark.parametrize(("alpha", "beta", "ctc"), [(0.6, 0.5, 0.0), (-0.1, 0.3, 0.0), (0.3, 0.3, -1.0)])
def test_weights_that_cannot_be_are_refused(alpha: float, beta: float, ctc: float) -> None:
    with pytest.raises(ValueError, match="must not"):
        LossWeights(alpha=alpha, beta=beta, ctc=ctc)
