"""Makes citations out of the words of evidence, and refuses those that point outside it.

A moment may reach over the segment's edge into its neighbours, as far as the evidence holds their words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from generator.domain import Citation, Evidence
from generator.errors import CitationOutOfEvidence
from retriever.domain import Span, Word, join_words, to_samples

PAD_S: Final = 0.15  # around the words: a recogniser's word edges are 10 ms frames, the ear wants a breath


@dataclass(frozen=True, slots=True)
class Timeline:
    """The words of a segment and its neighbours in order of time.

    Attributes:
        words: before, inside and after the segment.
        first, last: half-open range of the segment's own words among them.
    """

    words: tuple[Word, ...]
    first: int
    last: int


def timeline(evidence: Evidence) -> Timeline:
    """Return the evidence's words, the neighbours' included, in order of time."""
    first = len(evidence.before)
    return Timeline(evidence.before + evidence.words + evidence.after, first, first + len(evidence.words))


def cite(evidence: Evidence, first: int, last: int) -> Citation:
    """Return the moment of words `first` to `last` (half-open) of the evidence's timeline.

    The moment is whole words with a little of the silence around them, never a part of the next word, and never beyond the evidence.

    Raises:
        CitationOutOfEvidence: the range is empty, beyond the words, or holds none of the segment's own.
    """
    line = timeline(evidence)
    if not 0 <= first < last <= len(line.words) or last <= line.first or first >= line.last:
        raise CitationOutOfEvidence(
            f"words {first} to {last} are not of the evidence: it has {len(line.words)}, its own are {line.first} to {line.last}; "
            "cite at least one of its own"
        )
    words = line.words[first:last]
    low, high = _reach(evidence)
    if first:
        low = max(low, line.words[first - 1].end)
    if last < len(line.words):
        high = min(high, line.words[last].start)
    pad = to_samples(PAD_S)
    start = min(words[0].start, max(low, words[0].start - pad))
    end = max(words[-1].end, min(high, words[-1].end + pad))
    return Citation(evidence.segment, Span(start, end), join_words(words))


def cite_segment(evidence: Evidence) -> Citation:
    """Return the whole segment as a moment; its text is empty where no word was heard."""
    return Citation(evidence.segment, evidence.segment.span, evidence.text)


def overlaps(one: Citation, other: Citation) -> bool:
    """Say whether two citations share sound."""
    same_lecture = one.segment.lecture_id == other.segment.lecture_id
    return same_lecture and one.span.start < other.span.end and other.span.start < one.span.end


def check_citations(citations: Sequence[Citation], evidence: Sequence[Evidence]) -> None:
    """Refuse citations that point at something that was not given.

    Raises:
        CitationOutOfEvidence: a citation's segment is not among the evidence, or its moment lies beyond what the evidence holds.
    """
    given = {one.segment: one for one in evidence}
    for citation in citations:
        source = given.get(citation.segment)
        if source is None:
            raise CitationOutOfEvidence(f"{citation.segment} was cited but is not among the {len(given)} segments given; cite only those")
        low, high = _reach(source)
        inside = low <= citation.span.start and citation.span.end <= high
        touches = citation.span.start < source.segment.end and source.segment.start < citation.span.end
        if not (inside and touches):
            raise CitationOutOfEvidence(
                f"{citation.span} was cited of a segment that spans {source.segment.span} and whose evidence reaches from {low} to {high}; "
                "cite within it"
            )


def _reach(evidence: Evidence) -> tuple[int, int]:
    """Return from where to where the evidence reaches, in samples from the lecture's beginning."""
    words = timeline(evidence).words
    low = min((word.start for word in words), default=evidence.segment.start)
    high = max((word.end for word in words), default=evidence.segment.end)
    return min(low, evidence.segment.start), max(high, evidence.segment.end)
