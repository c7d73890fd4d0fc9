"""Cuts the words of evidence, which have no punctuation, into stretches that could be an answer.

A recogniser's words carry times only, so pauses stand for full stops: words between two pauses are a unit, and every run of neighbouring
units that is short enough is a candidate. Units cross from a segment into its neighbours where the sound goes on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from generator.citations import Timeline, timeline
from generator.domain import Evidence
from retriever.domain import Word, join_words, to_samples

PAUSE_S: Final = 0.15  # a gap that ends a unit; of 0.15, 0.2, 0.25 and 0.4 s it cites closest (weights/MODEL_CARD.md)
MAX_BRIDGE_S: Final = 3.0  # neighbours further away than this are another moment
MAX_UNIT_WORDS: Final = 24  # speech without pauses is cut at its longest gap until units are no longer than this
MAX_SPAN_WORDS: Final = 40
MIN_SPAN_WORDS: Final = 5  # unless the segment has none longer


@dataclass(frozen=True, slots=True, eq=False)
class CandidateSpan:
    """Words `first` to `last` (half-open) of the timeline of the evidence with this rank."""

    rank: int
    first: int
    last: int
    text: str


def candidate_spans(evidence: Sequence[Evidence], max_answer_s: float) -> list[CandidateSpan]:
    """Return the spans of all evidence that hold at least one of a segment's own words and last at most `max_answer_s`.

    A span that two neighbouring segments both reach is given once, to the better one.
    """
    seen: set[tuple[object, int, int]] = set()
    spans: list[CandidateSpan] = []
    for rank, one in enumerate(evidence):
        line = timeline(one)
        for first, last in _without_crumbs(list(_ranges(line, to_samples(max_answer_s)))):
            words = line.words[first:last]
            place = (one.segment.lecture_id, words[0].start, words[-1].end)
            if place not in seen:
                seen.add(place)
                spans.append(CandidateSpan(rank, first, last, join_words(words)))
    return spans


def _ranges(line: Timeline, max_samples: int) -> Iterator[tuple[int, int]]:
    """Yield runs of neighbouring units that are short enough and hold one of the segment's own words."""
    for stretch in _split(line.words, 0, len(line.words), to_samples(MAX_BRIDGE_S)):
        units = [unit for part in _split(line.words, *stretch, to_samples(PAUSE_S)) for unit in _halve(line.words, *part, max_samples)]
        for index, (first, unit_end) in enumerate(units):
            for _, last in units[index:]:
                if last > unit_end and not _fits(line.words[first:last], MAX_SPAN_WORDS, max_samples):
                    break
                if last > line.first and first < line.last:
                    yield first, last


def _without_crumbs(ranges: Sequence[tuple[int, int]]) -> Sequence[tuple[int, int]]:
    return [(first, last) for first, last in ranges if last - first >= MIN_SPAN_WORDS] or ranges


def _fits(words: Sequence[Word], max_words: int, max_samples: int) -> bool:
    return len(words) <= max_words and words[-1].end - words[0].start <= max_samples


def _split(words: Sequence[Word], first: int, last: int, min_gap: int) -> list[tuple[int, int]]:
    cuts = [index for index in range(first + 1, last) if words[index].start - words[index - 1].end >= min_gap]
    return list(pairwise([first, *cuts, last])) if first < last else []


def _halve(words: Sequence[Word], first: int, last: int, max_samples: int) -> list[tuple[int, int]]:
    """Return ranges that are short enough, cut at the longest gaps of the middle third; the middle wins a tie. A word is never cut."""
    if last - first == 1 or _fits(words[first:last], MAX_UNIT_WORDS, max_samples):
        return [(first, last)]
    third = (last - first) // 3
    middle = (first + last) / 2
    inner = range(first + max(third, 1), last - third)
    cut = max(inner, key=lambda index: (words[index].start - words[index - 1].end, -abs(index - middle)))
    return [*_halve(words, first, cut, max_samples), *_halve(words, cut, last, max_samples)]
