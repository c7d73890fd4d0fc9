"""Our search and our answers inside chains of LangChain, over a real library."""

import json
from pathlib import Path

import pytest
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from protocol_server import answers, running

from app.service import SpokenQA
from generator.build import build_generator
from generator.config import Served
from generator.langchain_adapter import answer_chain
from retriever.domain import Question
from retriever.errors import InvalidQuestion, UnreadableAudio
from retriever.langchain_adapter import LectureRetriever

QUESTION = "How many times does the human heart beat every day?"


@pytest.fixture
def retriever(qa: SpokenQA) -> LectureRetriever:
    return LectureRetriever(search=lambda question, k: qa.search(question, k).evidence, k=3)


def test_documents_are_the_moments_that_the_application_finds(qa: SpokenQA, retriever: LectureRetriever) -> None:
    found = qa.search(Question(text=QUESTION), 3).evidence
    documents = retriever.invoke(QUESTION)
    assert [one.page_content for one in documents] == [one.text for one in found]
    for document, one in zip(documents, found, strict=True):
        assert document.metadata == {
            "lecture_id": str(one.segment.lecture_id),
            "lecture": "Short lecture",
            "segment_id": one.segment.id,
            "start_s": round(one.segment.span.start_s, 3),
            "end_s": round(one.segment.span.end_s, 3),
            "score": one.hit.score,
        }
        assert json.loads(json.dumps(document.metadata)) == document.metadata
    assert len({one.id for one in documents}) == 3


def test_a_spoken_question_finds_what_its_words_would(qa: SpokenQA, retriever: LectureRetriever, short_question: Path) -> None:
    spoken = retriever.find(Question(audio=qa.read_question(short_question)))
    assert spoken[0].id == retriever.invoke(QUESTION)[0].id


def test_the_retriever_works_in_a_chain_of_others(retriever: LectureRetriever) -> None:
    chain = {"found": retriever, "question": RunnablePassthrough()} | RunnableLambda(
        lambda both: f"{both['question']}: {len(both['found'])} moments of {both['found'][0].metadata['lecture']}"
    )
    assert chain.invoke(QUESTION) == f"{QUESTION}: 3 moments of Short lecture"
    assert len(retriever.batch([QUESTION, "bread"])) == 2


def test_an_empty_question_is_refused_with_a_way_out(qa: SpokenQA, retriever: LectureRetriever) -> None:
    for chain in (retriever, answer_chain(qa.search, qa.generator)):
        with pytest.raises(InvalidQuestion, match="type it, or record it"):
            chain.invoke("  ")


def test_a_question_in_words_as_a_sound_and_as_a_file_comes_out_answered(qa: SpokenQA, short_question: Path) -> None:
    chain = answer_chain(qa.search, qa.generator)
    sound = qa.read_question(short_question)
    for asked in (QUESTION, Question(text=QUESTION), sound, short_question):
        out = chain.invoke(asked)
        assert out["supported"]
        assert "hundred thousand" in out["answer"]
        first = out["documents"][0]
        assert isinstance(first, Document)
        assert first.metadata["lecture"] == "Short lecture"
        assert 28 < first.metadata["start_s"] < first.metadata["end_s"] < 41
        assert "heart" in out["question"].lower()


def test_what_the_lectures_do_not_say_comes_out_with_the_nearest_moments(qa: SpokenQA) -> None:
    out = answer_chain(qa.search, qa.generator).invoke("What is the largest planet of the solar system?")
    assert not out["supported"]
    assert out["documents"]


def test_a_speech_llm_answers_in_a_chain(qa: SpokenQA) -> None:
    with running(brain=answers("One hundred thousand times.", (1,))) as server:
        generator = build_generator(Served(base_url=server.url, family="voxtral"), "clsr")
        out = answer_chain(qa.search, generator, num_hits=2).pipe(lambda out: f"{out['answer']} ({out['model']})").invoke(QUESTION)
        assert out == "One hundred thousand times. (tiny)"
        assert len(server.last().sounds) == 2


def test_a_file_that_is_no_sound_is_refused(qa: SpokenQA, tmp_path: Path) -> None:
    path = tmp_path / "question.wav"
    path.write_text("no sound", encoding="utf-8")
    with pytest.raises(UnreadableAudio):
        answer_chain(qa.search, qa.generator).invoke(path)
