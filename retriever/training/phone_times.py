"""When each phone of a known text was said, by the recogniser's own CTC: the likeliest path through the text's phones (Viterbi).

Graves et al. 2006, "Connectionist Temporal Classification", section 4.1, with the best path instead of the sum over all.

Shapes: B utterances, K outputs, P phones and blank (blank = 0), N phones of the longest text, S = 2 N + 1 states: phones, blanks around.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

NO_PATH: Final = -1e30

Spans = list[tuple[int, int]]


def phone_spans(
    log_probs: npt.NDArray[np.float32], lengths: Sequence[int], phones: Sequence[Sequence[int]], output_samples: int
) -> list[Spans]:
    """Return from where to where each phone lasts, in samples; what is between two is shared between them.

    Args:
        log_probs: (B, K, P).
        lengths: of each utterance in outputs; what is behind is padding.
        phones: of each utterance, ids from 1.
        output_samples: from one output to the next.

    Returns:
        For each utterance a span of each phone, none where there are more phones than outputs can hold.
    """
    states = _states(phones)
    paths = _best_paths(log_probs, states, np.asarray(lengths), np.array([len(some) for some in phones]))
    return [_spans(path[:length], len(some), output_samples) for path, length, some in zip(paths, lengths, phones, strict=True)]


def _states(phones: Sequence[Sequence[int]]) -> npt.NDArray[np.int64]:
    """Return the class of each state (B, S); blank in padding."""
    states = np.zeros((len(phones), 2 * max(map(len, phones)) + 1), np.int64)
    for row, some in zip(states, phones, strict=True):
        row[1 : 2 * len(some) : 2] = some
    return states


def _best_paths(
    log_probs: npt.NDArray[np.float32], states: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], num_phones: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return the state at each output (B, K), -1 where no path ends well and in padding."""
    num, num_outputs = log_probs.shape[:2]
    rows = np.arange(num)
    may_skip = np.zeros(states.shape, np.bool_)  # a blank between two different phones may be left out
    may_skip[:, 3:] = (states[:, 3:] != 0) & (states[:, 3:] != states[:, 1:-2])
    scores = np.full(states.shape, NO_PATH, np.float32)
    scores[:, 0] = 0.0
    steps = np.zeros((num_outputs, *states.shape), np.int8)
    for output in range(num_outputs):
        ways = np.full((3, *states.shape), NO_PATH, np.float32)
        ways[0] = scores
        if output:
            ways[1, :, 1:] = scores[:, :-1]
            ways[2, :, 2:] = np.where(may_skip[:, 2:], scores[:, :-2], NO_PATH)
        else:
            ways[1, :, 1] = 0.0  # the first output is a blank or the first phone
        steps[output] = ways.argmax(axis=0)
        moved = ways.max(axis=0) + np.take_along_axis(log_probs[:, output], states, axis=1)
        scores = np.where((output < lengths)[:, None], moved, scores)
    last = 2 * num_phones
    at_end = np.where(scores[rows, last] >= scores[rows, last - 1], last, last - 1)
    ends_well = scores[rows, at_end] > NO_PATH / 2
    paths = np.full((num, num_outputs), -1, np.int64)
    for output in reversed(range(num_outputs)):
        real = (output < lengths) & ends_well
        paths[real, output] = at_end[real]
        at_end = np.where(real, at_end - steps[output, rows, at_end], at_end)
    return paths


def _spans(path: npt.NDArray[np.int64], num_phones: int, output_samples: int) -> Spans:
    if not len(path) or path[-1] < 0:
        return []
    said = 2 * np.arange(num_phones) + 1
    firsts, lasts = np.searchsorted(path, said, side="left"), np.searchsorted(path, said, side="right")
    middles = ((firsts[1:] + lasts[:-1]) * output_samples // 2).tolist()
    return list(zip([0, *middles], [*middles, int(lasts[-1]) * output_samples], strict=True))
