"""The reading network: what it may know, what its loss means, and that ONNX computes the same."""

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from generator.nets.reader import LONGEST_TOKENS, Reader, joint_loss, span_loss
from generator.training.reader_export import GROUP, write_int8, write_onnx
from retriever.nets.text_encoder import TextEncoderConfig

TINY = TextEncoderConfig(vocabulary_size=60, max_positions=40, dimension=16, num_layers=2, num_heads=2, feed_forward_dimension=32)


def make_net(seed=0):
    torch.manual_seed(seed)
    net = Reader(TINY).eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return net


def make_inputs(rows, length, seed=1):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, TINY.vocabulary_size, (rows, length), generator=generator)
    return ids, torch.ones(rows, length, dtype=torch.bool), (torch.arange(length) > 4).long().expand(rows, length)


def test_no_answer_scores_zero_in_every_window():
    with torch.no_grad():
        scores = make_net()(*make_inputs(3, 9))
    assert scores.shape == (3, 9, 2)
    assert torch.equal(scores[:, 0], torch.zeros(3, 2))


def test_padding_changes_no_score():
    net = make_net()
    ids, mask, types = make_inputs(2, 9)
    wide = [torch.cat([one, torch.zeros(2, 5, dtype=one.dtype)], dim=1) for one in (ids, mask, types)]
    with torch.no_grad():
        torch.testing.assert_close(net(*wide)[:, :9], net(ids, mask, types), atol=1e-5, rtol=1e-5)


def test_a_window_is_read_the_same_beside_others():
    net = make_net()
    ids, mask, types = make_inputs(4, 9)
    with torch.no_grad():
        alone = torch.cat([net(ids[row : row + 1], mask[row : row + 1], types[row : row + 1]) for row in range(4)])
        torch.testing.assert_close(net(ids, mask, types), alone, atol=1e-5, rtol=1e-5)


def test_rows_of_the_token_table_give_what_token_ids_give():
    net = make_net()
    ids, mask, types = make_inputs(2, 9)
    with torch.no_grad():
        assert torch.equal(net.score_rows(net.encoder.embeddings.token(ids), mask, types), net(ids, mask, types))


def slow_loss(scores, allowed, targets):
    """The formula, one window and edge at a time."""
    losses = []
    for row in range(len(scores)):
        total = 0.0
        for edge in range(2):
            odds = [float(np.exp(scores[row, place, edge])) for place in np.flatnonzero(allowed[row, :, edge])]
            right = [float(np.exp(scores[row, place, edge])) for place in np.flatnonzero(targets[row, :, edge])]
            total -= np.log((sum(right) if right else 1.0) / (1.0 + sum(odds)))
        losses.append(total)
    return losses


def test_the_loss_is_the_formula():
    generator = torch.Generator().manual_seed(2)
    scores = torch.randn(4, 7, 2, generator=generator)
    allowed = torch.zeros(4, 7, 2, dtype=torch.bool)
    allowed[:, 2:] = True
    targets = torch.zeros_like(allowed)
    targets[0, 3, 0] = targets[0, 4, 1] = True
    targets[1, 2:5, 0] = targets[1, 5:, 1] = True  # several places share
    wanted = slow_loss(scores.numpy(), allowed.numpy(), targets.numpy())
    np.testing.assert_allclose(span_loss(scores, allowed, targets).numpy(), wanted, rtol=1e-4)


def test_the_gradient_of_the_loss_is_that_of_its_values():
    torch.manual_seed(3)
    scores = torch.randn(2, 5, 2, dtype=torch.float64, requires_grad=True)
    allowed = torch.ones(2, 5, 2, dtype=torch.bool)
    targets = torch.zeros_like(allowed)
    targets[0, 1] = True
    loss = span_loss(scores, allowed, targets).sum()
    (gradient,) = torch.autograd.grad(loss, scores)
    step = 1e-2
    for place in ((0, 1, 0), (0, 3, 1), (1, 2, 0)):
        moved = scores.detach().clone()
        moved[place] += step
        lower = scores.detach().clone()
        lower[place] -= step
        slope = (span_loss(moved, allowed, targets).sum() - span_loss(lower, allowed, targets).sum()) / (2 * step)
        assert float(gradient[place]) == pytest.approx(float(slope), abs=2e-3)


def slow_joint_loss(scores, allowed, targets):
    """The formula, one window and span at a time."""
    losses = []
    for row in range(len(scores)):
        spans = {
            (first, last): float(scores[row, first, 0] + scores[row, last, 1])
            for first in np.flatnonzero(allowed[row, :, 0])
            for last in np.flatnonzero(allowed[row, :, 1])
            if first <= last < first + LONGEST_TOKENS
        }
        right = 0.0
        if targets[row].any():
            right = spans[np.flatnonzero(targets[row, :, 0])[0], np.flatnonzero(targets[row, :, 1])[0]]
        losses.append(np.log(1 + sum(np.exp(score) for score in spans.values())) - right)
    return losses


def make_targets(length=80):
    generator = torch.Generator().manual_seed(5)
    scores = torch.randn(3, length, 2, generator=generator)
    allowed = torch.rand(3, length, 2, generator=generator) < 0.6
    allowed[:, :2] = False
    targets = torch.zeros_like(allowed)
    for row, (first, last) in enumerate(((4, 9), (7, 7))):
        allowed[row, first, 0] = allowed[row, last, 1] = targets[row, first, 0] = targets[row, last, 1] = True
    return scores, allowed, targets


def test_the_loss_of_whole_spans_is_the_formula():
    given = make_targets()
    wanted = slow_joint_loss(*(one.numpy() for one in given))
    np.testing.assert_allclose(joint_loss(*given).numpy(), wanted, rtol=1e-4)


def test_the_loss_of_whole_spans_tells_ends_that_do_not_belong_together():
    _, allowed, targets = make_targets()
    allowed[:] = True
    scores = torch.zeros(3, 80, 2)
    scores[:, 30, 0] = scores[:, 20, 1] = 3.0  # a good start behind a good end: no span at all
    crossed = joint_loss(scores, allowed, targets)[0]
    scores[:, 30, 0], scores[:, 15, 0] = 0.0, 3.0  # the same scores, now of a span that competes with the target
    assert joint_loss(scores, allowed, targets)[0] > crossed + 0.1
    torch.testing.assert_close(span_loss(scores, allowed, targets)[0], span_loss(scores.roll(1, 1), allowed, targets.roll(1, 1))[0])


def test_a_target_that_is_longer_than_any_span_weighed_teaches_nothing():
    scores, allowed, targets = make_targets(120)
    scores = (scores * 0).requires_grad_()
    with torch.no_grad():
        scores[0, 3, 0] = scores[0, 110, 1] = 9.0
    allowed[:], targets[:] = True, False
    targets[0, 3, 0] = targets[0, 110, 1] = True
    (gradient,) = torch.autograd.grad(joint_loss(scores, allowed, targets)[0], scores)
    assert not gradient.any()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_onnx_computes_what_torch_computes(tmp_path):
    torch.manual_seed(0)
    net = Reader(replace(TINY, dimension=GROUP, feed_forward_dimension=4 * GROUP)).eval()
    ids, mask, types = make_inputs(2, 11)
    with torch.no_grad():
        wanted = net(ids, mask, types).numpy()
        rows = net.encoder.embeddings.token(ids).numpy()
    write_onnx(net, tmp_path / "float.onnx")
    write_int8(net, tmp_path / "int8.onnx")
    inputs = {"rows": rows, "token_mask": mask.numpy(), "token_types": types.numpy()}
    for name, tolerance in (("float", 1e-4), ("int8", 0.02 * float(np.abs(wanted).max()))):
        session = onnxruntime.InferenceSession(str(tmp_path / f"{name}.onnx"), providers=["CPUExecutionProvider"])
        np.testing.assert_allclose(session.run(["scores"], inputs)[0], wanted, atol=tolerance)
    kept = [weight for weight in onnx.load(tmp_path / "int8.onnx").graph.initializer if len(weight.dims) > 1]
    stored = [weight for weight in kept if weight.data_type == onnx.TensorProto.INT8]
    num_matrices = TINY.num_layers * 6 + 1
    assert len(stored) == num_matrices
    assert not [
        weight for weight in kept if weight.data_type == onnx.TensorProto.FLOAT and weight.dims[-1] >= GROUP and weight.dims[0] > 40
    ]
