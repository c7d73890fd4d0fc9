"""Runs systems over a set: the same sound, the same segments, the same questions for all.

Work is kept in a folder by the content it was done on, so that a run that was stopped goes on where it was, and other systems, other
questions or more contexts are added without repeating what is there.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import combinations
from pathlib import Path

import numpy as np

from app.errors import CommandMisused
from app.evaluation.cache import LineCache
from app.evaluation.domain import EvaluationSet, content_key
from app.evaluation.listening import Cost, Listener, cut, total_cost
from app.evaluation.results import Difference, FormResult, Outcome, Speed, difference, side_result
from app.evaluation.sides import ALL_SIDES, DENSE, FUSED, score
from app.evaluation.sounds import Noise
from app.evaluation.systems import Source, System, needs_sound
from app.evaluation.transcripts import WordErrors, said_in, word_errors
from retriever.build import build_fusion, build_segmenter
from retriever.config import SegmentationConfig
from retriever.domain import EmbeddedSegment, EncodedQuestion, Span, join_words, to_seconds

TYPED, SPOKEN = "typed", "spoken"
Spans = dict[str, tuple[Span, ...]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run.

    Attributes:
        segmentations: the first is that of all comparisons; the others make the curve over segments, without noise.
        noises: added to contexts, never to questions; they make the curve over word error rates, with the first segmentation.
        forms: of questions.
        curves: names of the systems that are run under more than the first condition; None takes all.

    Raises:
        CommandMisused: `curves` names no system.
    """

    systems: tuple[System, ...]
    segmentations: tuple[SegmentationConfig, ...]
    noises: tuple[Noise, ...] = (Noise(),)
    forms: tuple[str, ...] = (TYPED,)
    curves: frozenset[str] | None = None

    def __post_init__(self) -> None:
        if unknown := (self.curves or frozenset()) - {system.name for system in self.systems}:
            raise CommandMisused(f"curves are asked of {', '.join(sorted(unknown))}, which --systems does not name")

    def conditions(self, system: System) -> Iterator[tuple[SegmentationConfig, Noise]]:
        """Yield under what a system is run; one that reads hears no noise, one that reads whole texts knows no segments."""
        if self.curves is not None and system.name not in self.curves:
            yield self.segmentations[0], self.noises[0]
            return
        for number, segmentation in enumerate(self.segmentations if system.source is not Source.TEXT else self.segmentations[:1]):
            for noise in self.noises if number == 0 and system.source is Source.SOUND else self.noises[:1]:
                yield segmentation, noise


class Runner:
    """A set, with the folder where work on it is kept."""

    def __init__(self, data: EvaluationSet, folder: Path, tell: Callable[[str], None]) -> None:
        """Hash the data.

        Args:
            data: what is asked.
            folder: for work that is kept.
            tell: gets a line for each step.
        """
        self.data = data
        self.data_hash = data.data_hash()
        self._folder = folder
        self._tell = tell
        places = {context.id: place for place, context in enumerate(data.contexts)}
        self._right = np.array([places[question.context_id] for question in data.questions])

    def run(self, plan: Plan) -> tuple[list[Outcome], list[Difference]]:
        """Return what all systems achieved, and their differences.

        Raises:
            CommandMisused: a system listens and the set has no sound, or questions should be spoken and are not.
        """
        if needs_sound(plan.systems) and not self.data.has_sound:
            raise CommandMisused(f"{self.data.name} has no sound: only systems that read the whole text (text-whole, KIND@text) can be run")
        if SPOKEN in plan.forms and not self.data.has_spoken_questions:
            raise CommandMisused(f"the questions of {self.data.name} are not spoken: say --questions typed")
        outcomes = [self._outcome(system, *condition, plan.forms) for system in plan.systems for condition in plan.conditions(system)]
        return outcomes, list(self._differences(outcomes))

    def _outcome(self, system: System, segmentation: SegmentationConfig, noise: Noise, forms: Sequence[str]) -> Outcome:
        self._tell(f"{system.name}, {describe(segmentation)}, {noise.name}")
        spans = self._spans(segmentation) if system.source is not Source.TEXT else {}
        with closing(system.build()) as retriever:
            listener = Listener(system, retriever, describe(segmentation), noise)
            name = (retriever.fingerprint, system.source.value)
            kept = self._cache("contexts", *name, describe(segmentation), repr(noise))
            contexts = list(listener.contexts(self.data.contexts, spans, kept))
            encoded = {form: self._questions(listener, form, name) for form in forms}
            text_cost = listener.text_encoder_cost([one for context in contexts for one in context])
            return Outcome(
                system=system.name,
                segmentation=describe(segmentation),
                noise=noise.name,
                fingerprint=retriever.fingerprint,
                num_segments=sum(map(len, contexts)),
                num_without_segments=sum(not context for context in contexts),
                errors=self._context_errors(contexts) if system.source is Source.SOUND else None,
                speed=_speed(spans, contexts, total_cost(self.data.contexts, kept), text_cost) if system.source is Source.SOUND else None,
                forms={form: self._form(system, form, *encoded[form], contexts) for form in forms},
            )

    def _questions(self, listener: Listener, form: str, name: tuple[str, ...]) -> tuple[list[EncodedQuestion], list[float]]:
        kept = self._cache("questions", name[0], form)
        encoded = listener.questions(self.data.questions, form == SPOKEN, kept)
        return encoded, [float(kept[content_key(question)]["wall_s"]) for question in self.data.questions]

    def _form(
        self,
        system: System,
        form: str,
        questions: Sequence[EncodedQuestion],
        encode_s: Sequence[float],
        contexts: Sequence[Sequence[EmbeddedSegment]],
    ) -> FormResult:
        scored = score(questions, contexts, build_fusion(system.retriever))
        heard = [question.heard or "" for question in questions]
        said = [said_in(question) or "" for question in self.data.questions]
        return FormResult(
            sides={side: side_result(values, self._right) for side, values in scored.sides.items()},
            errors=word_errors(said, heard, self.data.language) if form == SPOKEN and any(heard) else None,
            encode_p50_s=float(np.median(encode_s)),
            search_p50_s=float(np.median(scored.search_s)),
            search_p95_s=float(np.quantile(scored.search_s, 0.95)),
        )

    def _context_errors(self, contexts: Sequence[Sequence[EmbeddedSegment]]) -> WordErrors | None:
        """Return the errors over all contexts; None for a system that hears no words, or where it is not known what was said."""
        if not any(one.words for segments in contexts for one in segments):
            return None
        pairs = [
            (text, " ".join(join_words(one.words) for one in segments))
            for context, segments in zip(self.data.contexts, contexts, strict=True)
            if (text := said_in(context)) is not None
        ]
        return word_errors([said for said, _ in pairs], [heard for _, heard in pairs], self.data.language)

    def _spans(self, segmentation: SegmentationConfig) -> Spans:
        return cut(self.data.contexts, build_segmenter(segmentation), self._cache("spans", describe(segmentation)))

    def _cache(self, what: str, *parts: str) -> LineCache:
        name = sha256("\n".join((what, *parts)).encode()).hexdigest()[:16]
        return LineCache(self._folder / f"{what}-{name}.jsonl")

    def _differences(self, outcomes: Sequence[Outcome]) -> Iterator[Difference]:
        """Yield the difference of every two systems under the same condition, the later one less the earlier one.

        Fused everywhere; under the condition of the comparison also by vectors alone, for systems that hear no words have nothing else, and
        each system's fusion less its parts.
        """
        main = (outcomes[0].segmentation, outcomes[0].noise)
        for one, other in combinations(outcomes, 2):
            here = (one.segmentation, one.noise)
            if one.system != other.system and here == (other.segmentation, other.noise):
                for side in (FUSED, DENSE) if here == main else (FUSED,):
                    yield from self._difference(other, side, one, side)
        for one in outcomes:
            if (one.segmentation, one.noise) == main:
                for side in ALL_SIDES:
                    if side != FUSED:
                        yield from self._difference(one, FUSED, one, side)

    def _difference(self, left: Outcome, side: str, right: Outcome, other_side: str) -> Iterator[Difference]:
        groups = self._right.tolist()
        for form in left.forms:
            interval = difference(left.forms[form].sides[side].ranks, right.forms[form].sides[other_side].ranks, groups)
            yield Difference(left.system, side, right.system, other_side, left.segmentation, left.noise, form, interval)


def describe(segmentation: SegmentationConfig) -> str:
    """Return a segmentation as one line of JSON."""
    return json.dumps(asdict(segmentation), sort_keys=True)


def _speed(spans: Spans, contexts: Sequence[Sequence[EmbeddedSegment]], total: Cost, text_cost: Cost) -> Speed:
    """Return what it took, the text encoder's share told apart."""
    num_segments = sum(map(len, contexts))
    text = Cost(text_cost.wall_s * num_segments, text_cost.cpu_s * num_segments)
    audio_s = to_seconds(sum(span.num_samples for context in spans.values() for span in context))
    rest = Cost(max(0.0, total.wall_s - text.wall_s), max(0.0, total.cpu_s - text.cpu_s))
    return Speed(audio_s, total, text, rest, total.wall_s / audio_s if audio_s else 0.0)
