"""Answers with the words of the lecture that support the answer best, and their moment; nothing is generated.

Every stretch between pauses is scored against the question (`ranking.py`); a calibration (`calibration.py`) decides whether the best one
answers. What is said in a lecture is only ever data here: it is compared and quoted, never followed.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final, Generic

from generator.calibration import Calibration
from generator.citations import check_citations, cite, cite_segment, overlaps
from generator.config import Extractive, Reader
from generator.domain import Answer, Citation, Evidence
from generator.ranking import Features, RankedSpan, Ranker
from retriever.domain import Question

MAX_EVIDENCE: Final = 5  # the calibration was made with so many; more only costs time
NO_ANSWER: Final = "The lectures do not seem to answer this."
NOTHING_FOUND: Final = "The lectures do not seem to answer this: no speech was found to look in."
NOT_UNDERSTOOD: Final = "Nothing was understood of the question. Please type it, or ask it again, closer to the microphone."

REACH: Final = 1.0  # further moments score so much less at most: beyond it, the first is nearly always right (weights/MODEL_CARD.md)


class ExtractiveGenerator(Generic[Features]):
    """Points at the best-supported span of the evidence, or says that there is none.

    Args:
        config: its fields hold for any ranker.
        calibration: measured with this ranker.
        ranker: finds the spans.
    """

    def __init__(self, config: Extractive | Reader, calibration: Calibration, ranker: Ranker[Features]) -> None:
        self._config = config
        self._calibration = calibration
        self._ranker: Ranker[Features] = ranker
        self._settings = json.dumps(asdict(config) | {"calibration": calibration.name}, sort_keys=True)

    def answer(self, question: Question, evidence: Sequence[Evidence]) -> Answer:
        """Return the best span's words as a quotation, with the moments it rests on; the same input gives the same answer."""
        evidence = evidence[:MAX_EVIDENCE]
        wording = question.wording.strip()
        if not wording:
            return self._decline(NOT_UNDERSTOOD, (), [])  # nothing is near to nothing
        ranked = self._ranker.rank(wording, evidence, self._config.max_answer_s)
        if not ranked:
            return self._decline(NOTHING_FOUND, evidence, [])
        model = self._calibration.model("typed" if question.text else "spoken")
        confidence = model.probability(self._ranker.support(wording, evidence, ranked))
        if confidence < model.threshold:
            return self._decline(NO_ANSWER, evidence, ranked, confidence)
        citations = self._moments(evidence, ranked)
        return self._finish(Answer(quote(citations[0].text), citations, True, confidence, self._config.kind, self._settings), evidence)

    def _decline(self, text: str, evidence: Sequence[Evidence], ranked: Sequence[RankedSpan[Features]], confidence: float = 0.0) -> Answer:
        nearest = self._nearest(evidence, ranked) if ranked else tuple(map(cite_segment, evidence[: self._config.max_citations]))
        return self._finish(Answer(text, (), False, confidence, self._config.kind, self._settings, nearest=nearest), evidence)

    def _moments(self, evidence: Sequence[Evidence], ranked: Sequence[RankedSpan[Features]]) -> tuple[Citation, ...]:
        """Return what is cited: the answer first."""
        return choose_moments(evidence, ranked, self._config.max_citations)

    def _nearest(self, evidence: Sequence[Evidence], ranked: Sequence[RankedSpan[Features]]) -> tuple[Citation, ...]:
        """Return what is shown when nothing answers."""
        return choose_moments(evidence, ranked, self._config.max_citations, math.inf)

    def _finish(self, answer: Answer, evidence: Sequence[Evidence]) -> Answer:
        check_citations(answer.citations + answer.nearest, evidence)
        return answer


def choose_moments(
    evidence: Sequence[Evidence], ranked: Sequence[RankedSpan[Features]], max_moments: int, reach: float = REACH
) -> tuple[Citation, ...]:
    """Return the best spans that share no sound.

    Args:
        evidence: that the spans are of.
        ranked: spans, best first.
        max_moments: to return at most.
        reach: how far below the best score a span may lie.
    """
    moments: list[Citation] = []
    for span in ranked:
        if len(moments) == max_moments or span.score < ranked[0].score - reach:
            break
        citation = cite(evidence[span.place.rank], span.place.first, span.place.last)
        if not any(overlaps(citation, other) for other in moments):
            moments.append(citation)
    return tuple(moments)


def quote(words: str) -> str:
    """Return heard words as a quotation that begins with a capital letter."""
    return f"“{words[:1].upper()}{words[1:]}”"
