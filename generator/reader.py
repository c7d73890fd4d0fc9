"""Answers with exactly the words that the trained reader marks, and their moment: the lecturer's own voice says the answer.

The reader scores every span of all evidence segments against "no answer" (`reading.py`), so segments compete on one scale; a calibration
weighs its score with what the search says of the segment, and decides whether the lectures answer at all. What is said in a lecture is only
ever data here: it is scored and quoted, never followed.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from generator.calibration import READER_SPAN_FEATURES, ReaderSpanFeatures, ReaderSupportFeatures
from generator.citations import Timeline, cite, overlaps, timeline
from generator.domain import Answer, Citation, Evidence
from generator.extractive import REACH, ExtractiveGenerator
from generator.ranking import RankedSpan
from generator.reading import WordScores
from generator.span_scores import NEVER, best_spans, log_total, span_scores
from generator.spans import MAX_BRIDGE_S, PAUSE_S, CandidateSpan
from generator.spoken_form import spoken_form
from generator.wording import content_words
from retriever.domain import Question, join_words, to_samples
from retriever.lexical import STOP_WORDS

MAX_ANSWER_WORDS: Final = 30  # the longest that the reader learnt
WORD_COST: Final = np.float32(0.1)  # log-odds that each further word of a span must earn; chosen on development questions
NUM_NEIGHBOURS: Final = 24  # words read on each side of a segment: an answer may reach across a cut
NUM_SPANS: Final = 12  # ranked for each segment
NUM_MORE_WORDS: Final = 4  # that an answer of grammar alone may take on one side
CONTEXT_WORDS: Final = 40  # a moment around an answer is no longer
TOO_LONG: Final = "The question is too long to be looked up: please ask it in fewer words."


class Net(Protocol):
    """Scores words; see `generator.reading.ReadingNet`."""

    @property
    def max_tokens(self) -> int:
        """Tokens of a window at most."""
        ...

    @property
    def name(self) -> str:
        """Names the weights."""
        ...

    def num_tokens(self, words: Sequence[str]) -> int:
        """Return how many tokens words have."""
        ...

    def read(self, question: Sequence[str], passage: Sequence[str]) -> list[WordScores]:
        """Return the scores of each window of a passage."""
        ...


@dataclass(frozen=True, slots=True)
class Passage:
    """The words of a piece of evidence as the reader reads them.

    Attributes:
        words: in spoken form; a word that was heard may be none or several of these.
        places: for each, the word of the evidence's timeline it comes from.
    """

    words: tuple[str, ...]
    places: tuple[int, ...]


def passage_of(line: Timeline) -> Passage:
    """Return the words of a timeline that are read: the segment's own and its nearest neighbours."""
    first, last = max(0, line.first - NUM_NEIGHBOURS), min(len(line.words), line.last + NUM_NEIGHBOURS)
    said = [(word, place) for place in range(first, last) for word in spoken_form(line.words[place].text)]
    return Passage(tuple(word for word, _ in said), tuple(place for _, place in said))


def allowed_spans(line: Timeline, places: Sequence[int], longest: int, max_answer_s: float) -> npt.NDArray[np.bool_]:
    """Return (W, L): whether the span of 1 to L words from a word on may be an answer.

    It holds one of the segment's own words, lasts no longer than `max_answer_s`, and bridges no silence after which another moment begins.

    Args:
        line: the timeline.
        places: of W words in it.
        longest: L.
        max_answer_s: of the moment.
    """
    num_words = len(places)
    lasts = np.minimum(np.arange(num_words)[:, None] + np.arange(longest), num_words - 1)  # (W, L)
    numbers = np.array(places)
    starts, ends = (np.array([getattr(line.words[place], edge) for place in places]) for edge in ("start", "end"))
    gaps = np.concatenate([[0], np.cumsum(starts[1:] - ends[:-1] >= to_samples(MAX_BRIDGE_S))])  # number of silences before each word
    own = (numbers[lasts] >= line.first) & (numbers < line.last)[:, None]
    short = ends[lasts] - starts[:, None] <= to_samples(max_answer_s)
    short[:, 0] = True  # a single word is never too long
    return np.asarray(own & short & (gaps[lasts] == gaps[:, None]))


class ReaderRanker:
    """Ranks the spans that the reader marks.

    Args:
        net: the reader.
        weights: of the span features, in the order of `READER_SPAN_FEATURES`.
    """

    def __init__(self, net: Net, weights: Sequence[float]) -> None:
        self.net = net
        self._weights = tuple(weights)

    def fits(self, wording: str) -> bool:
        """Say whether a question leaves half a window for the lecture's words."""
        return self.net.num_tokens(spoken_form(wording)) <= self.net.max_tokens // 2

    def rank(self, wording: str, evidence: Sequence[Evidence], max_answer_s: float) -> list[RankedSpan[ReaderSpanFeatures]]:
        """Return the best spans of all evidence, best first; ties go to the better hit, then to the earlier span.

        A question without a word, or one that is too long, has none.
        """
        question = spoken_form(wording)
        if not question or not self.fits(wording):
            return []
        ranked = [span for rank, one in enumerate(evidence) for span in self._read(question, one, rank, max_answer_s)]
        ranked.sort(key=lambda span: (-span.score, span.place.rank, span.place.first, span.place.last))
        return list({_moment(evidence, span): span for span in reversed(ranked)}.values())[::-1]

    def _read(self, question: Sequence[str], one: Evidence, rank: int, max_answer_s: float) -> Iterator[RankedSpan[ReaderSpanFeatures]]:
        line = timeline(one)
        passage = passage_of(line)
        if not passage.words:
            return
        allowed = allowed_spans(line, passage.places, MAX_ANSWER_WORDS, max_answer_s)
        best: dict[tuple[int, int], float] = {}
        total = float(NEVER)
        for scored in self.net.read(question, passage.words):
            scores = span_scores(scored.starts, scored.ends, MAX_ANSWER_WORDS) - WORD_COST * np.arange(MAX_ANSWER_WORDS, dtype=np.float32)
            scores = np.where(allowed[scored.first : scored.first + len(scores)], scores, NEVER)
            total = max(total, log_total(scores))
            for span in best_spans(scores, NUM_SPANS):
                place = passage.places[scored.first + span.first], passage.places[scored.first + span.last - 1] + 1
                best[place] = max(best.get(place, float(NEVER)), span.score)
        for (first, last), score in best.items():
            yield self._weigh(one, CandidateSpan(rank, first, last, join_words(line.words[first:last])), score, total)

    def _weigh(self, one: Evidence, place: CandidateSpan, score: float, total: float) -> RankedSpan[ReaderSpanFeatures]:
        features = ReaderSpanFeatures(
            score=score,
            total=total,
            hit_cosine=one.hit.features.cosine,
            hit_coverage=one.hit.features.coverage,
            rank=float(place.rank),
        )
        weighed = sum(weight * getattr(features, name) for name, weight in zip(READER_SPAN_FEATURES, self._weights, strict=True))
        return RankedSpan(place, features, weighed)

    def support(
        self, wording: str, evidence: Sequence[Evidence], ranked: Sequence[RankedSpan[ReaderSpanFeatures]]
    ) -> ReaderSupportFeatures:
        """Return what the decision rests on, from the hits and the best span.

        Args:
            wording: the question's words.
            evidence: best first, at least one.
            ranked: its spans, best first, at least one.
        """
        hits = [one.hit.features for one in evidence]
        best = evidence[ranked[0].place.rank].hit.features
        asked = content_words(wording)
        return ReaderSupportFeatures(
            score=ranked[0].features.score,
            total=ranked[0].features.total,
            hit_cosine=best.cosine,
            hit_coverage=best.coverage,
            cosine=max(hit.cosine for hit in hits),
            coverage=max(hit.coverage for hit in hits),
            margin=max(hit.margin for hit in hits),
            lexical=max(hit.lexical for hit in hits) / max(1, len(asked)),
            num_words=float(len(asked)),
        )


def _moment(evidence: Sequence[Evidence], span: RankedSpan[ReaderSpanFeatures]) -> tuple[object, int, int]:
    """Return which lecture and time a span is of: two neighbouring segments may both reach it."""
    one = evidence[span.place.rank]
    words = timeline(one).words[span.place.first : span.place.last]
    return one.segment.lecture_id, words[0].start, words[-1].end


class ReaderGenerator(ExtractiveGenerator[ReaderSpanFeatures]):
    """Answers in the lecturer's own words: first the answer alone, then the stretch it stands in, then other places that may answer."""

    def answer(self, question: Question, evidence: Sequence[Evidence]) -> Answer:
        """Return the answer's words as a quotation, their moment first; the same input gives the same answer."""
        wording = question.wording.strip()
        if wording and isinstance(self._ranker, ReaderRanker) and not self._ranker.fits(wording):
            return self._decline(TOO_LONG, evidence[: self._config.max_citations], [])
        return super().answer(question, evidence)

    def _moments(self, evidence: Sequence[Evidence], ranked: Sequence[RankedSpan[ReaderSpanFeatures]]) -> tuple[Citation, ...]:
        return reader_moments(evidence, ranked, self._config.max_citations, self._config.max_answer_s)

    def _nearest(self, evidence: Sequence[Evidence], ranked: Sequence[RankedSpan[ReaderSpanFeatures]]) -> tuple[Citation, ...]:
        return tuple(stretches(evidence, ranked, self._config.max_citations, self._config.max_answer_s, math.inf))


def reader_moments(
    evidence: Sequence[Evidence], ranked: Sequence[RankedSpan[ReaderSpanFeatures]], max_moments: int, max_s: float
) -> tuple[Citation, ...]:
    """Return what an answer cites: its own words, the stretch they stand in where that is more, then other places that may answer."""
    around, *others = stretches(evidence, ranked, max_moments, max_s, REACH)
    best = ranked[0].place
    exact = cite(evidence[best.rank], *telling(timeline(evidence[best.rank]), best.first, best.last))
    return (exact, *([around] if around.span != exact.span else []), *others)[:max_moments]


def telling(line: Timeline, first: int, last: int) -> tuple[int, int]:
    """Return words `first` to `last`; if those are grammar alone, with more words up to one that is not.

    "How many strings?" is answered by "four", which sounds like "for": "for strings" tells a listener more.
    """
    words = line.words

    def tells(place: int) -> bool:
        return words[place].text.lower() not in STOP_WORDS

    if any(map(tells, range(first, last))):
        return first, last
    after = next(filter(tells, range(last, min(len(words), last + NUM_MORE_WORDS))), None)
    if after is not None:
        return first, after + 1
    before = next(filter(tells, range(first - 1, max(0, first - NUM_MORE_WORDS) - 1, -1)), first)
    return before, last


def stretches(
    evidence: Sequence[Evidence], ranked: Sequence[RankedSpan[ReaderSpanFeatures]], max_moments: int, max_s: float, reach: float
) -> list[Citation]:
    """Return the best spans, each with what is said around it; none shares sound with another, none scores `reach` below the best."""
    moments: list[Citation] = []
    for span in ranked:
        if len(moments) == max_moments or span.score < ranked[0].score - reach:
            break
        one = evidence[span.place.rank]
        moment = cite(one, *context_of(timeline(one), span.place.first, span.place.last, max_s))
        if not any(overlaps(moment, other) for other in moments):
            moments.append(moment)
    return moments


def context_of(line: Timeline, first: int, last: int, max_s: float) -> tuple[int, int]:
    """Return the stretch around words `first` to `last` in which they are understood: to the pauses on both sides, as far as that is short.

    It has at most `CONTEXT_WORDS` words and lasts at most `max_s`, and grows word by word towards the nearer pause.
    """
    words = line.words
    start, end = first, last

    def open_to(side: int) -> bool:
        here = (start - 1, start) if side < 0 else (end - 1, end)
        if here[0] < 0 or here[1] >= len(words):
            return False
        return words[here[1]].start - words[here[0]].end < to_samples(PAUSE_S)

    while end - start < CONTEXT_WORDS and (open_to(-1) or open_to(1)):
        left = open_to(-1) and (not open_to(1) or first - start <= end - last)
        new = (start - 1, end) if left else (start, end + 1)
        if words[new[1] - 1].end - words[new[0]].start > to_samples(max_s):
            break
        start, end = new
    return start, end
