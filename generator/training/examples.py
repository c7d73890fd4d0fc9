"""Questions asked of libraries of development lectures: with an answer there, on another topic, and with the answer taken out.

Libraries are one lecture, four, or all of a half, so that a threshold holds for a student's first lecture and for a whole course.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal, TypeAlias
from uuid import UUID

from generator.calibration import Mode
from generator.domain import Evidence
from generator.training.corpus import DevelopmentLecture, LectureQuestion
from generator.training.hearing import Ears, lecture_id
from retriever.domain import Audio, EmbeddedSegment, EncodedQuestion, Hit, Question, Span, Word

NUM_HITS: Final = 5
LIBRARY_SIZES: Final = (1, 4, 1000)  # lectures; the last is all there are
_MAX_STRANGERS: Final = 24  # for each library and mode

Kind: TypeAlias = Literal["answerable", "stranger", "removed"]
Search: TypeAlias = Callable[[Sequence[EmbeddedSegment], EncodedQuestion, int], Sequence[Hit]]


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """A question with the evidence found for it.

    Attributes:
        kind: "answerable", "stranger" (another topic) or "removed" (the passage with the answer was taken out of the library).
        truth: the sentence that answers; None unless answerable.
        passage: the paragraph around it; None unless answerable.
    """

    kind: Kind
    mode: Mode
    half: int
    num_lectures: int
    question: Question
    evidence: tuple[Evidence, ...]
    lecture_id: UUID | None = None
    truth: Span | None = None
    passage: Span | None = None

    @property
    def is_found(self) -> bool:
        """Whether the sentence that answers lies in the evidence's segments."""
        return self.truth is not None and any(
            one.segment.lecture_id == self.lecture_id and overlap(one.segment.span, self.truth) > 0 for one in self.evidence
        )


def overlap(one: Span, other: Span) -> int:
    """Return how many samples two spans share."""
    return max(0, min(one.end, other.end) - max(one.start, other.start))


@dataclass(frozen=True, slots=True, eq=False)
class ExampleMaker:
    """Makes examples of lectures (file name -> lecture) and questions that none of them answers."""

    lectures: Mapping[str, DevelopmentLecture]
    strangers: Sequence[LectureQuestion]
    ears: Ears
    search: Search

    def make(self, mode: Mode) -> Iterator[Example]:
        """Yield all examples of a mode."""
        for half in (0, 1):
            names = [name for name, lecture in self.lectures.items() if lecture.half == half]
            strangers = list(self.strangers[half::2])
            for size in LIBRARY_SIZES:
                for first in range(0, len(names), size):
                    library = names[first : first + size]
                    segments = {name: self.ears.hear_lecture(name, self.lectures[name]) for name in library}
                    foreign = [question for name in names if name not in library for question in self.lectures[name].questions]
                    mixed = [question for pair in zip(foreign, strangers, strict=False) for question in pair] or strangers
                    yield from self._ask_strangers(half, mode, segments, mixed)
                    for name in library:
                        yield from self._ask_lecture(half, mode, segments, name)

    def _asked(self, questions: Sequence[LectureQuestion], mode: Mode) -> Sequence[LectureQuestion]:
        return [question for question in questions if mode == "typed" or question.is_spoken]

    def _ask_strangers(
        self, half: int, mode: Mode, library: Mapping[str, list[EmbeddedSegment]], questions: Sequence[LectureQuestion]
    ) -> Iterator[Example]:
        for question in self._asked(questions, mode)[:_MAX_STRANGERS]:
            asked, evidence = self._find(library, question, mode)
            yield Example("stranger", mode, half, len(library), asked, evidence)

    def _ask_lecture(self, half: int, mode: Mode, library: Mapping[str, list[EmbeddedSegment]], name: str) -> Iterator[Example]:
        lecture = self.lectures[name]
        for question in self._asked(lecture.questions, mode):
            truth = lecture.sentences[question.sentence]
            around = [sentence for sentence in lecture.sentences if sentence.passage == truth.passage]
            passage = Span(around[0].start, around[-1].end)
            asked, evidence = self._find(library, question, mode)
            yield Example(
                "answerable", mode, half, len(library), asked, evidence, lecture_id(lecture), Span(truth.start, truth.end), passage
            )
            rest = {**library, name: [one for one in library[name] if not overlap(one.segment.span, passage)]}
            asked, evidence = self._find(rest, question, mode)
            yield Example("removed", mode, half, len(library), asked, evidence)

    def _find(
        self, library: Mapping[str, list[EmbeddedSegment]], question: LectureQuestion, mode: Mode
    ) -> tuple[Question, tuple[Evidence, ...]]:
        asked, encoded = self.ears.hear_question(question, mode == "spoken")
        segments = [one for lecture in library.values() for one in lecture]
        hits = self.search(segments, encoded, NUM_HITS) if encoded.wording else []
        return asked, tuple(bring_evidence(hits, segments))


def bring_evidence(hits: Sequence[Hit], segments: Sequence[EmbeddedSegment]) -> Iterator[Evidence]:
    """Yield hits with their words and their neighbours', as the library does."""
    ordered = sorted(segments, key=lambda one: one.segment)
    words = {one.segment: one.words for one in ordered}
    before: dict[object, tuple[Word, ...]] = {}
    after: dict[object, tuple[Word, ...]] = {}
    for one, other in pairwise(ordered):
        if one.segment.lecture_id == other.segment.lecture_id:
            before[other.segment], after[one.segment] = one.words, other.words
    for hit in hits:
        yield Evidence(hit, "", words[hit.segment], before.get(hit.segment, ()), after.get(hit.segment, ()), _no_audio)


def _no_audio() -> Audio:
    raise NotImplementedError("a text reader reads no sound")
