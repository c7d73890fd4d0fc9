"""Phones found in time: against all paths of a small case, and where none fits."""

from itertools import pairwise, product

import numpy as np
import pytest

from retriever.training.phone_times import phone_spans


def likeliest(log_probs: np.ndarray, phones: list[int]) -> tuple[float, list[int]]:
    """Return the best path of classes that says the phones, by trying all."""

    def said(path: tuple[int, ...]) -> list[int]:
        return [now for now, before in zip(path, (0, *path), strict=False) if now and now != before]

    paths = [path for path in product(range(log_probs.shape[1]), repeat=len(log_probs)) if said(path) == phones]
    scores = [sum(float(log_probs[place, now]) for place, now in enumerate(path)) for path in paths]
    best = int(np.argmax(scores))
    return scores[best], list(paths[best])


@pytest.mark.parametrize("phones", [[1], [1, 2], [2, 2], [1, 2, 1]])
def test_phones_are_where_the_likeliest_of_all_paths_has_them(phones: list[int]) -> None:
    draw = np.random.default_rng(len(phones))
    for _ in range(10):
        scores = draw.normal(size=(6, 3)) * 3
        log_probs = (scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)).astype(np.float32)
        _, path = likeliest(log_probs, phones)
        starts = [place for place, now in enumerate(path) if now and (place == 0 or path[place - 1] != now)]
        stops = [place + 1 for place, now in enumerate(path) if now and (place == 5 or path[place + 1] != now)]
        bounds = [0, *((stop + start) * 100 // 2 for stop, start in zip(stops[:-1], starts[1:], strict=True)), stops[-1] * 100]
        padded = np.concatenate((log_probs, np.zeros((4, 3), np.float32)))  # what is behind the end counts for nothing
        (spans,) = phone_spans(padded[None], [6], [phones], 100)
        assert spans == list(pairwise(bounds))


def test_utterances_of_a_batch_are_alike_alone_and_one_that_does_not_fit_has_no_spans() -> None:
    draw = np.random.default_rng(0)
    log_probs = np.log(draw.dirichlet(np.ones(4), size=(3, 12))).astype(np.float32)
    phones, lengths = [[1, 2, 3], [2], [1, 1, 1]], [12, 7, 4]
    together = phone_spans(log_probs, lengths, phones, 480)
    for row in range(3):
        assert phone_spans(log_probs[row : row + 1, : lengths[row]], lengths[row : row + 1], phones[row : row + 1], 480) == [together[row]]
    assert [len(some) for some in together] == [3, 1, 0]  # three of the same phone need a blank between each two
