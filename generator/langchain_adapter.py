"""The whole as a LangChain runnable: a question, typed or spoken, in; an answer with the documents it rests on out.

Needs the extra `llm`; nothing else of the project imports this module.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias, TypedDict
from uuid import UUID

from langchain_core.documents import Document
from langchain_core.runnables import Runnable, RunnableLambda

from generator.base import Generator
from generator.domain import Answer, Citation, Evidence
from retriever.audio import read_audio
from retriever.config import AudioLimits
from retriever.domain import MAX_QUESTION_S, Audio, Question
from retriever.langchain_adapter import document_of

Asked: TypeAlias = str | Path | Audio | Question
"""Words, a sound file, a sound, or a question that has all it needs."""


class FoundEvidence(Protocol):
    """What a search brings; `app.service.Found` is one."""

    @property
    def question(self) -> Question:
        """The question, with what was heard of it."""
        ...

    @property
    def evidence(self) -> Sequence[Evidence]:
        """The moments found, best first."""
        ...


Search: TypeAlias = Callable[[Question, int], FoundEvidence]
"""Finds evidence for a question, at most so many moments: for example `qa.search` of the application."""


class Answered(TypedDict):
    """What comes out; all of it plain JSON but the documents.

    Attributes:
        question: the words as they were typed or heard.
        answer: its words, or the sentence that the lectures do not say it.
        supported: whether the lectures say it.
        confidence: calibrated probability that the evidence holds an answer.
        model: what answered.
        note: what else to know, for example that another generator had to step in; mostly empty.
        documents: the moments that the answer rests on, best first; when not supported, the nearest.
    """

    question: str
    answer: str
    supported: bool
    confidence: float
    model: str
    note: str
    documents: list[Document]


def answer_chain(search: Search, generator: Generator, num_hits: int = 5) -> Runnable[Asked, Answered]:
    """Return a chain of three steps: make a question of what is asked, search, answer.

    Args:
        search: finds the evidence.
        generator: any of ours, a fallback around it included.
        num_hits: moments to find at most.

    The chain raises InvalidQuestion and UnreadableAudio for what is no question, and what search and generator raise.
    """

    def find(question: Question) -> FoundEvidence:
        return search(question, num_hits)

    def answer(found: FoundEvidence) -> Answered:
        return answered(found, generator.answer(found.question, found.evidence))

    return RunnableLambda(as_question) | RunnableLambda(find) | RunnableLambda(answer)


def as_question(asked: Asked) -> Question:
    """Return what is asked as a question. Raises InvalidQuestion, UnreadableAudio."""
    if isinstance(asked, Question):
        return asked
    if isinstance(asked, Audio):
        return Question(audio=asked)
    if isinstance(asked, Path):
        return Question(audio=read_audio(asked, AudioLimits(), MAX_QUESTION_S))
    return Question(text=asked)


def answered(found: FoundEvidence, answer: Answer) -> Answered:
    """Return an answer as the chain gives it out."""
    titles = {one.segment.lecture_id: one.lecture_title for one in found.evidence}
    return Answered(
        question=found.question.wording,
        answer=answer.text,
        supported=answer.supported,
        confidence=answer.confidence,
        model=answer.model,
        note=answer.note,
        documents=[_document(one, titles) for one in answer.citations or answer.nearest],
    )


def _document(citation: Citation, titles: Mapping[UUID, str]) -> Document:
    return document_of(citation.segment, citation.span, titles.get(citation.segment.lecture_id, ""), citation.text)
