"""The laws that every retriever obeys, together with the index that searches what it makes."""

from collections.abc import Callable, Iterator
from itertools import permutations
from pathlib import Path
from typing import get_args
from uuid import UUID

import numpy as np
import psutil
import pytest

from retriever.audio import read_audio
from retriever.base import Retriever
from retriever.build import build_fusion, build_retriever
from retriever.config import AudioLimits, RetrieverConfig
from retriever.domain import Audio, EmbeddedSegment, Question, Segment, SegmentAudio, join_words
from retriever.index import SegmentIndex

CONFIGS: tuple[type[RetrieverConfig], ...] = get_args(RetrieverConfig) or (RetrieverConfig,)
SENTENCES = ("my mother bought a new house", "the water is cold", "we went to the market in the morning", "he plays music with his brother")
GAP = 80_000  # the sentences begin five seconds apart


@pytest.fixture(scope="module", params=CONFIGS, ids=lambda config: config.__name__)
def config(request: pytest.FixtureRequest) -> RetrieverConfig:
    made: RetrieverConfig = request.param()
    return made


@pytest.fixture(scope="module")
def retriever(config: RetrieverConfig) -> Iterator[Retriever]:
    made = build_retriever(config)
    yield made
    made.close()


@pytest.fixture(scope="module")
def clips(speak: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> list[SegmentAudio]:
    """Four spoken sentences of two lectures, and a second of silence."""
    folder = tmp_path_factory.mktemp("clips")
    sounds = [read_audio(speak(text, folder / f"{i}.wav", words_per_minute=140), AudioLimits(), 30) for i, text in enumerate(SENTENCES)]
    sounds.append(Audio(np.zeros(16_000, np.float32)))
    ids = [UUID(int=1 + i % 2) for i in range(len(sounds))]
    return [SegmentAudio(Segment(ids[i], i * GAP, i * GAP + sound.num_samples, ids[i]), sound) for i, sound in enumerate(sounds)]


@pytest.fixture(scope="module")
def embedded(retriever: Retriever, clips: list[SegmentAudio]) -> list[EmbeddedSegment]:
    return list(retriever.embed(iter(clips)))


def index_of(retriever: Retriever, config: RetrieverConfig, embedded: list[EmbeddedSegment]) -> SegmentIndex:
    index = SegmentIndex.create(retriever.fingerprint, retriever.dimension, build_fusion(config))
    index.add(embedded)
    return index


@pytest.fixture(scope="module")
def index(retriever: Retriever, config: RetrieverConfig, embedded: list[EmbeddedSegment]) -> SegmentIndex:
    return index_of(retriever, config, embedded)


BOTH = {UUID(int=1), UUID(int=2)}


def test_an_empty_index_gives_no_hits(retriever: Retriever, config: RetrieverConfig) -> None:
    assert index_of(retriever, config, []).search(retriever.encode(Question(text="music")), 3, BOTH) == []


def test_segments_come_back_in_order_with_unit_vectors_and_words_in_their_place(
    retriever: Retriever, clips: list[SegmentAudio], embedded: list[EmbeddedSegment]
) -> None:
    assert [one.segment for one in embedded] == [clip.segment for clip in clips]
    for one in embedded:
        assert one.vector.shape == (retriever.dimension,)
        assert one.vector.dtype == np.float32
        assert float(np.linalg.norm(one.vector)) == pytest.approx(1.0, abs=1e-4)
        assert one.fingerprint == retriever.fingerprint
        assert all(one.segment.start <= word.start < word.end <= one.segment.end for word in one.words)


def test_words_are_heard_in_speech_and_none_in_silence(embedded: list[EmbeddedSegment]) -> None:
    assert all(one.words for one in embedded[:4])
    assert embedded[4].words == ()


def test_embedding_again_gives_the_same(retriever: Retriever, clips: list[SegmentAudio], embedded: list[EmbeddedSegment]) -> None:
    for one, again in zip(embedded[1::-1], retriever.embed(clips[1::-1]), strict=True):
        np.testing.assert_array_equal(again.vector, one.vector)
        assert again.words == one.words


def test_the_best_hit_of_a_segments_own_sound_is_that_segment(retriever: Retriever, index: SegmentIndex, clips: list[SegmentAudio]) -> None:
    for clip in clips[:4]:
        assert index.search(retriever.encode(Question(audio=clip.audio)), 3, BOTH)[0].segment == clip.segment


def test_what_was_said_is_found_by_typing(retriever: Retriever, index: SegmentIndex, clips: list[SegmentAudio]) -> None:
    assert index.search(retriever.encode(Question(text="Who bought a house?")), 3, BOTH)[0].segment == clips[0].segment


def test_a_question_and_a_segment_of_the_same_sound_are_heard_alike(
    retriever: Retriever, clips: list[SegmentAudio], embedded: list[EmbeddedSegment]
) -> None:
    assert retriever.encode(Question(audio=clips[2].audio)).heard == join_words(embedded[2].words)


@pytest.mark.parametrize("k", [1, 2, 5, 9])
def test_k_is_respected_and_scores_fall(retriever: Retriever, index: SegmentIndex, k: int) -> None:
    hits = index.search(retriever.encode(Question(text="cold water in the morning")), k, BOTH)
    assert len(hits) == min(k, 5)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_scope_is_respected(retriever: Retriever, index: SegmentIndex) -> None:
    hits = index.search(retriever.encode(Question(text="cold water")), 5, {UUID(int=1)})
    assert len(hits) == 3
    assert {hit.segment.lecture_id for hit in hits} == {UUID(int=1)}


def test_adding_twice_changes_nothing(
    retriever: Retriever, config: RetrieverConfig, index: SegmentIndex, embedded: list[EmbeddedSegment]
) -> None:
    twice = index_of(retriever, config, embedded)
    twice.add(embedded)
    asked = retriever.encode(Question(text="music"))
    assert twice.ids == index.ids
    assert twice.search(asked, 9, BOTH) == index.search(asked, 9, BOTH)


def test_order_of_adding_is_irrelevant(
    retriever: Retriever, config: RetrieverConfig, index: SegmentIndex, embedded: list[EmbeddedSegment]
) -> None:
    asked = retriever.encode(Question(text="music in the house"))
    expected = [hit.segment for hit in index.search(asked, 9, BOTH)]
    for order in list(permutations(embedded))[::17]:
        assert [hit.segment for hit in index_of(retriever, config, list(order)).search(asked, 9, BOTH)] == expected


def test_closing_embed_early_leaves_no_process(retriever: Retriever, clips: list[SegmentAudio]) -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    embedding = retriever.embed(iter(clips * 10))
    next(embedding)
    embedding.close()
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before


def test_a_closed_retriever_leaves_no_process_and_can_be_used_again(retriever: Retriever, clips: list[SegmentAudio]) -> None:
    retriever.close()
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    question = Question(audio=clips[1].audio)
    heard = retriever.encode(question).heard
    retriever.close()
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before
    assert retriever.encode(question).heard == heard
