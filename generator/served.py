"""Answers by a model behind a server: a speech LLM that hears the clips themselves, or a text LLM that reads the words heard in them.

What the model says is believed as far as it can be checked: it must name clips that it was sent, and what points nowhere is refused. How
sure the answer is (`Answer.confidence`) is not asked of the model, which is not calibrated: it is the embedded generator's measured
estimate that the evidence holds an answer.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Final, Protocol, TypeAlias

from generator.answer_format import Reply, read_reply, response_format, so_far
from generator.citations import check_citations, cite_segment
from generator.clips import Clip, Sending, plan_sounds, plan_words
from generator.config import Served, ServedText
from generator.domain import Answer, AnswerStatus, Citation, Evidence
from generator.errors import AnswerUnusable, ClipUnavailable, ServedError
from generator.families import ModelFamily, family_of, named_family
from generator.model_server import ModelServer, Wish
from generator.prompt import Message, messages_with_sound, messages_with_words
from retriever.domain import Audio, Question, join_words

NO_ANSWER: Final = "The lectures do not seem to answer this."
NOTHING_FOUND: Final = "The lectures do not seem to answer this: there is nothing to look in that could be sent to the model."
NOT_UNDERSTOOD: Final = "Nothing was understood of the question. Please type it, or ask it again, closer to the microphone."

Assess: TypeAlias = Callable[[Question, Sequence[Evidence]], float]
"""Estimates, calibrated, how probable it is that the evidence holds an answer."""


@dataclass(frozen=True, slots=True, eq=False)
class Brief:
    """All that goes to the server for one question.

    Attributes:
        extra: further fields of the request, among them the form of the answer.
    """

    messages: Sequence[Message]
    sending: Sending
    temperature: float
    extra: Mapping[str, object]


class Briefing(Protocol):
    """Puts a question and its evidence into a prompt."""

    def brief(self, question: Question, evidence: Sequence[Evidence], model: str) -> Brief | str:
        """Return what to send, or the sentence to answer with where nothing can be sent. Raises GeneratorError."""
        ...


class SoundBriefing:
    """Sends sound, cut and arranged for the model's family."""

    def __init__(self, config: Served) -> None:
        """Note how. Raises FamilyUnknown if the settings name a family that is none."""
        self._config = config
        self._family = named_family(config.family) if config.family else None

    def brief(self, question: Question, evidence: Sequence[Evidence], model: str) -> Brief | str:
        """Return the prompt with the clips' sound, and the question's unless it is typed.

        Raises:
            FamilyUnknown: the settings name no family, and the model's name tells none.
            PromptTooLong: the question alone leaves no room for clips.
            ClipUnavailable: no moment has a sound that can be sent.
        """
        typed, sound = question_parts(question)
        if typed is None and sound is None:
            return NOT_UNDERSTOOD
        family = self._family or family_of(model)
        sending = plan_sounds(sound, evidence, family, self._config.max_clips)
        if not sending.clips:
            raise ClipUnavailable(f"of the moments found none can be sent: {'; '.join(map(str, sending.left_out))}")
        messages = messages_with_sound(sending, typed, family.prompt)
        return Brief(messages, sending, self._config.temperature or family.sampling.temperature, _extra(family, len(sending.clips)))


class WordsBriefing:
    """Sends the words that were heard: the cascade."""

    def __init__(self, config: ServedText) -> None:
        self._config = config

    def brief(self, question: Question, evidence: Sequence[Evidence], model: str) -> Brief | str:  # noqa: ARG002  any text model will do
        """Return the prompt with the words heard in the clips."""
        wording = question.wording.strip()
        if not wording:
            return NOT_UNDERSTOOD
        sending = plan_words(evidence, self._config.max_clips)
        if not sending.clips:
            return NOTHING_FOUND
        extra = {"response_format": response_format(len(sending.clips))} if self._config.structured else {}
        return Brief(messages_with_words(sending.clips, wording), sending, self._config.temperature, extra)


class ServedGenerator:
    """Asks a model server; may be shared by threads."""

    def __init__(self, config: Served | ServedText, server: ModelServer, briefing: Briefing, assess: Assess | None = None) -> None:
        """Put the parts together; nothing is sent yet.

        Args:
            config: its settings, kept with each answer.
            server: what to ask.
            briefing: makes the prompt.
            assess: gives the confidence; without it the confidence is 1 for what the model supports and 0 for what it does not.
        """
        self._config = config
        self._server = server
        self._briefing = briefing
        self._assess = assess

    def answer(self, question: Question, evidence: Sequence[Evidence]) -> Answer:
        """Return the model's answer with the clips it named, or that the lectures do not say it. Raises ServedError, GeneratorError."""
        *_, last = self.stream(question, evidence)
        return last

    def stream(self, question: Question, evidence: Sequence[Evidence]) -> Iterator[Answer]:
        """Yield the answer as it comes, and last the whole one, checked.

        Raises:
            ServedError: no usable answer came; the message has the way out, `partial` what had come until then.
            GeneratorError: the question cannot be put to this model.
        """
        if not evidence:
            yield self._declined(NOTHING_FOUND, (), 0.0, "none", {})
            return
        model = self._server.model_name(self._config.model)
        brief = self._briefing.brief(question, evidence, model)
        if isinstance(brief, str):
            yield self._declined(brief, evidence, 0.0, model, {})
            return
        with ThreadPoolExecutor(1, "assess") as pool:  # while the server thinks
            assessed = pool.submit(self._assess, question, evidence) if self._assess is not None else None
            draft = Answer("", (), supported=False, confidence=0.0, model=model, settings="{}", status=AnswerStatus.STREAMING)
            text = ended = ""
            try:
                wish = Wish(brief.temperature, self._config.max_tokens, brief.extra)
                for piece in self._server.stream(model, brief.messages, wish):
                    text, ended = text + piece.text, piece.ended or ended
                    yield replace(draft, text=so_far(text))
            except ServedError as error:
                error.partial = so_far(text)
                raise
            yield self._finish(_Came(question, evidence, brief.sending, model, text, ended), assessed)

    def _finish(self, came: "_Came", assessed: "Future[float] | None") -> Answer:
        reply = read_reply(came.text)
        clips, notes = checked_clips(reply, came.sending)
        notes += came.notes(self._config.max_tokens)
        supported = bool(clips) and reply.supported is not False
        confidence = assessed.result() if assessed is not None else float(supported)
        if not supported:
            declined = self._declined(NO_ANSWER, came.evidence, confidence, came.model, came.log())
            return replace(declined, note=" ".join(notes))
        citations = tuple(cite_clip(clip) for clip in clips[: self._config.max_citations])
        check_citations(citations, came.evidence)
        settings = self._settings(came.log())
        return Answer(reply.answer, citations, True, confidence, came.model, settings, note=" ".join(notes))

    def _declined(self, text: str, evidence: Sequence[Evidence], confidence: float, model: str, log: Mapping[str, object]) -> Answer:
        nearest = tuple(map(cite_segment, evidence[: self._config.max_citations]))
        return Answer(text, (), False, confidence, model, self._settings(log), nearest=nearest)

    def _settings(self, log: Mapping[str, object]) -> str:
        """Return the configuration and what was sent as one line of JSON; the record holds the key's name, never the key."""
        origin = "embedded estimate that the evidence holds an answer" if self._assess is not None else "the model's own verdict"
        return json.dumps(asdict(self._config) | {"confidence": origin} | dict(log), sort_keys=True, ensure_ascii=False)


@dataclass(frozen=True, slots=True, eq=False)
class _Came:
    """A whole reply and what it is a reply to."""

    question: Question
    evidence: Sequence[Evidence]
    sending: Sending
    model: str
    text: str
    ended: str

    def notes(self, max_tokens: int) -> list[str]:
        """Return what the reader has to know of how the answer came to be, a sentence each."""
        notes = []
        if self.ended == "length":
            notes.append(f"The model stopped at its limit of {max_tokens} tokens (`max_tokens`): the answer may lack its end.")
        if self.sending.left_out:
            notes.append(f"Not sent to the model: {'; '.join(map(str, self.sending.left_out))}.")
        return notes

    def log(self) -> dict[str, object]:
        """Return what was sent and what was not, for the record."""
        sent = [
            {
                "clip": clip.number,
                "segment": clip.evidence.segment.id,
                "start_s": round(clip.span.start_s, 3),
                "end_s": round(clip.span.end_s, 3),
            }
            for clip in self.sending.clips
        ]
        return {"sent": sent, "left_out": [str(one) for one in self.sending.left_out]}


def question_parts(question: Question) -> tuple[str | None, Audio | None]:
    """Return the question as it is to be put: its typed words, else its sound, else the words heard; both None if there is nothing."""
    if question.text and question.text.strip():
        return question.text.strip(), None
    if question.audio is not None and question.audio.num_samples:
        return None, question.audio
    return question.wording.strip() or None, None


def checked_clips(reply: Reply, sending: Sending) -> tuple[tuple[Clip, ...], list[str]]:
    """Return the clips that a reply rests on, and notes on what of it was refused.

    Raises:
        AnswerUnusable: the reply claims an answer, but names no clip that was sent, or has no words.
    """
    if reply.supported is False:
        return (), []
    if not reply.answer:
        raise AnswerUnusable("the model says that the lectures answer this, but not what: ask again, or choose another model")
    count = len(sending.clips)
    named = [sending.clips[number - 1] for number in reply.clips if 1 <= number <= count]
    wrong = [str(number) for number in reply.clips if not 1 <= number <= count]
    if not named and not wrong:  # it named none: then by the time in a joined sound, or because there was only one
        at_times = (sending.clip_at(moment_s) for moment_s in reply.times_s)
        named = list(dict.fromkeys(clip for clip in at_times if clip is not None))
        if not named and count == 1:
            named = [sending.clips[0]]
    if not named:
        rests = f"clips {', '.join(wrong)}, which it was not sent" if wrong else "no clip"
        raise AnswerUnusable(
            f"the model's answer “{reply.answer[:200]}” rests on {rests} ({count} were sent) and is refused: ask again, or choose another "
            "model"
        )
    return tuple(named), [f"The model also named clips that it was not sent ({', '.join(wrong)}); they are left out."] if wrong else []


def cite_clip(clip: Clip) -> Citation:
    """Return a clip as the moment it covers; its text is what was heard in it, empty if nothing was."""
    inside = [word for word in clip.evidence.words if word.start < clip.span.end and clip.span.start < word.end]
    return Citation(clip.evidence.segment, clip.span, join_words(inside))


def _extra(family: ModelFamily, num_clips: int) -> dict[str, object]:
    extra: dict[str, object] = {"response_format": response_format(num_clips)} if family.structured else {}
    if family.sampling.repetition_penalty != 1.0:
        extra["repetition_penalty"] = family.sampling.repetition_penalty
    return extra
