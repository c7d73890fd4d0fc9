"""Makes of evidence the clips that a speech LLM is sent: cut at pauses to fit, joined where it takes one sound only, encoded as WAV.

Nothing is cut off unsaid: what does not fit is listed with the reason, and a clip that was cut still covers the moment whole, in parts.
"""

import base64
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from generator.domain import Evidence
from generator.errors import ClipUnavailable, PromptTooLong
from generator.families import ModelFamily
from retriever.domain import SAMPLE_RATE_HZ, Audio, Samples, Span, clock, to_samples

MIN_CLIP_S: Final = 0.5  # servers refuse sound "too short to be represented"; silence is added up to this
MIN_PART_S: Final = 4.0  # less of a moment tells a model nothing: it is left out rather than cut so short
GAP_S: Final = 0.6  # of silence between clips that are joined, so that they are heard apart
_HOP: Final = to_samples(0.02)
_WINDOW: Final = 5 * _HOP  # a pause is looked for with a window of this length
_LATE: Final = 0.6  # of the room: cuts lie in what comes after, so that few parts are made


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """A stretch of a lecture as a model is sent it.

    Attributes:
        number: what the prompt calls it, from 1.
        evidence: that it is of.
        span: in samples from the lecture's beginning; all of the evidence's segment unless that had to be cut.
        audio: its sound; None where only words are sent.
    """

    number: int
    evidence: Evidence
    span: Span
    audio: Audio | None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A stretch that was found and not sent, and why."""

    lecture_title: str
    span: Span
    reason: str

    def __str__(self) -> str:
        """Return it as a sentence says it."""
        return f"“{self.lecture_title}” {clock(self.span.start_s)}–{clock(self.span.end_s)} ({self.reason})"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a clip lies in a joined sound: half-open, in samples from its beginning."""

    clip: int
    start: int
    end: int


@dataclass(frozen=True, slots=True, eq=False)
class Sending:
    """What goes out for one question.

    Attributes:
        clips: numbered from 1, best first.
        left_out: what was found and does not go out.
        question: the question's sound in parts that fit, each of which becomes a part of the message; empty for a typed question.
        joined: all clips in one sound (after the question's, if that is sound), for models that take only one; else None.
        places: where the clips lie in `joined`.
    """

    clips: tuple[Clip, ...]
    left_out: tuple[LeftOut, ...]
    question: tuple[Audio, ...] = ()
    joined: Audio | None = None
    places: tuple[Place, ...] = ()

    def clip_at(self, moment_s: float) -> Clip | None:
        """Return the clip that is heard at this second of the joined sound, None in the gaps and in the question."""
        at = to_samples(moment_s)
        return next((self.clips[place.clip - 1] for place in self.places if place.start <= at < place.end), None)


def plan_sounds(question: Audio | None, evidence: Sequence[Evidence], family: ModelFamily, max_moments: int) -> Sending:
    """Return what to send of a question and its evidence to a model of this family.

    Args:
        question: its sound; None if it is typed.
        evidence: best first; their sound is read here.
        family: how long a clip may be, how many there may be, and whether they must be joined.
        max_moments: of the evidence to send at most.

    Raises:
        PromptTooLong: the question alone leaves no room.
    """
    chosen, left_out = _choose(evidence, max_moments)
    heard: list[tuple[Evidence, Audio]] = []
    for one in chosen:
        try:
            heard.append((one, one.load_audio()))
        except ClipUnavailable as error:
            left_out.append(LeftOut(one.lecture_title, one.segment.span, f"its sound cannot be read: {error}"))
    if family.multi_audio:
        return _several(question, heard, family, left_out)
    return _one(question, heard, family, left_out)


def plan_words(evidence: Sequence[Evidence], max_moments: int) -> Sending:
    """Return the moments whose words are to be sent; those in which nothing was heard are left out."""
    chosen, left_out = _choose(evidence, max_moments)
    spoken = [one for one in chosen if one.words]
    left_out += [LeftOut(one.lecture_title, one.segment.span, "no words were heard in it") for one in chosen if not one.words]
    return Sending(tuple(Clip(i, one, one.segment.span, None) for i, one in enumerate(spoken, start=1)), tuple(left_out))


def cut_at_pauses(samples: Samples, max_samples: int) -> list[tuple[int, int]]:
    """Return half-open ranges that together are the whole sound, each at most `max_samples` long, cut where it is quietest.

    Args:
        samples: (N,); a sound that fits is one range.
        max_samples: at least a second.
    """
    ranges: list[tuple[int, int]] = []
    start = 0
    while len(samples) - start > max_samples:
        earliest = start + int(max_samples * _LATE)
        latest = start + max_samples
        if len(samples) - latest < to_samples(1.0):  # leave no crumb at the end
            latest = max(earliest + _WINDOW, len(samples) - to_samples(1.0))
        cut = earliest + quietest(samples[earliest:latest])
        ranges.append((start, cut))
        start = cut
    return [*ranges, (start, len(samples))]


def quietest(samples: Samples) -> int:
    """Return the middle of the quietest tenth of a second, in samples; the last of several equal ones."""
    if len(samples) <= _WINDOW:
        return len(samples) // 2
    hops = samples[: len(samples) // _HOP * _HOP].reshape(-1, _HOP)
    loudness = np.convolve(np.einsum("ij,ij->i", hops, hops, dtype=np.float64), np.ones(_WINDOW // _HOP), "valid")
    last = len(loudness) - 1 - int(np.argmin(loudness[::-1]))
    return last * _HOP + _WINDOW // 2


def to_wav(audio: Audio) -> bytes:
    """Return a sound as a WAV file of 16-bit integers, mono, 16 kHz: integers cannot carry the NaN that spoils a server's answers."""
    pcm: bytes = np.rint(audio.samples * np.float32(32767.0)).astype("<i2").tobytes()
    sizes = b"RIFF" + struct.pack("<I", 36 + len(pcm)) + b"WAVE"
    layout = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, SAMPLE_RATE_HZ, 2 * SAMPLE_RATE_HZ, 2, 16)
    return sizes + layout + b"data" + struct.pack("<I", len(pcm)) + pcm


def to_base64(audio: Audio) -> str:
    """Return a sound as base64 of a WAV file, as messages carry it."""
    return base64.b64encode(to_wav(audio)).decode("ascii")


def _choose(evidence: Sequence[Evidence], max_moments: int) -> tuple[Sequence[Evidence], list[LeftOut]]:
    reason = f"the setting max_clips sends {max_moments} at most"
    return evidence[:max_moments], [LeftOut(one.lecture_title, one.segment.span, reason) for one in evidence[max_moments:]]


def _several(question: Audio | None, heard: Sequence[tuple[Evidence, Audio]], family: ModelFamily, left_out: list[LeftOut]) -> Sending:
    """Every moment is a part of the message, or several parts where it is longer than the model takes."""
    longest = to_samples(family.max_clip_s)
    asked = () if question is None else tuple(map(at_least_audible, _parts(question, longest)))
    room = family.max_clips - len(asked)
    if room < 1:
        raise PromptTooLong(
            f"the question lasts {question.duration_s if question else 0:.0f} s, which takes all {family.max_clips} sounds that "
            f"{family.title} hears at once: ask in fewer words, or type it"
        )
    clips: list[Clip] = []
    for one, sound in heard:
        for start, end in cut_at_pauses(sound.samples, longest):
            span = _span(one, start, end)
            if span is None:
                left_out.append(LeftOut(one.lecture_title, one.segment.span, "its sound is empty"))
            elif len(clips) < room:
                clips.append(Clip(len(clips) + 1, one, span, at_least_audible(Audio(sound.samples[start:end]))))
            else:
                left_out.append(LeftOut(one.lecture_title, span, f"{family.title} hears {family.max_clips} sounds at once"))
    return Sending(tuple(clips), tuple(left_out), asked)


def _one(question: Audio | None, heard: Sequence[tuple[Evidence, Audio]], family: ModelFamily, left_out: list[LeftOut]) -> Sending:
    """All goes into one sound: the question, if it is one, then the moments, the best first, while there is room."""
    room = to_samples(family.max_clip_s)
    gap = np.zeros(to_samples(GAP_S), np.float32)
    pieces: list[Samples] = []
    if question is not None:
        pieces += [question.samples, gap]
    at = sum(map(len, pieces))
    if room - at < to_samples(MIN_PART_S):
        raise PromptTooLong(
            f"the question lasts {at / SAMPLE_RATE_HZ:.0f} s and {family.title} hears {family.max_clip_s:g} s in all, the lecture's clips "
            "among them: ask in fewer words, or type it"
        )
    clips: list[Clip] = []
    places: list[Place] = []
    for one, sound in heard:
        taken, lost = _fit(one, sound, room - at)
        if lost is not None:
            left_out.append(LeftOut(one.lecture_title, lost, f"{family.title} hears {family.max_clip_s:g} s in all"))
        span = _span(one, 0, taken)
        if span is None:
            continue
        clips.append(Clip(len(clips) + 1, one, span, Audio(sound.samples[:taken])))
        places.append(Place(clips[-1].number, at, at + taken))
        pieces += [sound.samples[:taken], gap]
        at += taken + len(gap)
    joined = at_least_audible(Audio(np.concatenate(pieces[:-1]))) if clips else None
    return Sending(tuple(clips), tuple(left_out), joined=joined, places=tuple(places))


def _fit(evidence: Evidence, sound: Audio, room: int) -> tuple[int, Span | None]:
    """Return how much of a moment's beginning fits, in samples, and the span that does not (None if all fits)."""
    if sound.num_samples <= room:
        return sound.num_samples, None
    if room < to_samples(MIN_PART_S):
        return 0, evidence.segment.span
    taken = cut_at_pauses(sound.samples[: room + 1], room)[0][1]
    return taken, _span(evidence, taken, sound.num_samples)


def _parts(audio: Audio, longest: int) -> Iterator[Audio]:
    for start, end in cut_at_pauses(audio.samples, longest):
        yield Audio(audio.samples[start:end])


def _span(evidence: Evidence, start: int, end: int) -> Span | None:
    """Return a range of a moment's sound as a span of the lecture, within its segment; None if it is empty."""
    segment = evidence.segment
    low, high = segment.start + start, min(segment.start + end, segment.end)
    return Span(low, high) if low < high else None


def at_least_audible(audio: Audio) -> Audio:
    """Return the sound, followed by silence if it is shorter than servers take."""
    missing = to_samples(MIN_CLIP_S) - audio.num_samples
    return audio if missing <= 0 else Audio(np.concatenate([audio.samples, np.zeros(missing, np.float32)]))
