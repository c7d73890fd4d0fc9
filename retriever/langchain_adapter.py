"""Our search as a LangChain retriever: a question in, documents out that say which moment of which lecture they are.

Needs the extra `llm`; nothing else of the project imports this module.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict, Field

from retriever.domain import Hit, Question, Segment, Span


class Moment(Protocol):
    """A hit with what a reader wants to know of it; `generator.domain.Evidence` is one."""

    @property
    def hit(self) -> Hit:
        """The segment found, with its score."""
        ...

    @property
    def lecture_title(self) -> str:
        """The title of its lecture."""
        ...

    @property
    def text(self) -> str:
        """The words heard in it."""
        ...


Search: TypeAlias = Callable[[Question, int], Sequence[Moment]]
"""Finds at most so many moments for a question, best first."""


class LectureRetriever(BaseRetriever):
    """Finds moments of lectures for a question in words; `find` takes spoken ones as well.

    Attributes:
        search: for example `lambda question, k: qa.search(question, k).evidence`, of the application.
        k: moments to find at most.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    search: Search = Field(exclude=True)
    k: int = Field(default=5, ge=1, le=50)

    def find(self, question: Question) -> list[Document]:
        """Return documents for a question, spoken or typed, best first. Raises what the search raises."""
        return [
            document_of(one.hit.segment, one.hit.segment.span, one.lecture_title, one.text, one.hit.score) for one in self._found(question)
        ]

    def _found(self, question: Question) -> Sequence[Moment]:
        return self.search(question, self.k)

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:  # noqa: ARG002
        return self.find(Question(text=query))


def document_of(segment: Segment, span: Span, lecture_title: str, text: str, score: float | None = None) -> Document:
    """Return a moment as a document: the words heard there, and in its metadata (all of it plain JSON) where they were heard.

    Args:
        segment: that the moment is of.
        span: the moment itself.
        lecture_title: of its lecture.
        text: what was heard.
        score: ranks within one search only; None if the moment was not found by a search.
    """
    metadata: dict[str, Any] = {
        "lecture_id": str(segment.lecture_id),
        "lecture": lecture_title,
        "segment_id": segment.id,
        "start_s": round(span.start_s, 3),
        "end_s": round(span.end_s, 3),
    }
    if score is not None:
        metadata["score"] = float(score)
    return Document(id=f"{segment.id}-{span.start}-{span.end}", page_content=text, metadata=metadata)
