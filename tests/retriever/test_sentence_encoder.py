import numpy as np
import pytest

from retriever.sentence_encoder import SentenceEncoder


@pytest.fixture(scope="module")
def encoder() -> SentenceEncoder:
    return SentenceEncoder()


def test_vectors_have_length_1_whatever_the_text(encoder: SentenceEncoder) -> None:
    vectors = encoder.encode(["", " ", "one", "x" * 5000, "word " * 1000, "né 中文 🎻", "\x00"])
    assert vectors.shape == (7, encoder.dimension)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


def test_no_texts_give_no_vectors(encoder: SentenceEncoder) -> None:
    assert encoder.encode([]).shape == (0, encoder.dimension)


def test_a_text_is_nearer_to_one_of_its_meaning(encoder: SentenceEncoder) -> None:
    question, right, wrong = encoder.encode(
        ["How often does the heart beat?", "the pulse is about seventy a minute", "bread needs yeast to rise"]
    )
    assert question @ right > question @ wrong + 0.2


def test_a_vector_does_not_depend_on_the_other_texts(encoder: SentenceEncoder) -> None:
    alone = encoder.encode(["the third planet from the sun"])[0]
    together = encoder.encode(["a", "the third planet from the sun", "word " * 400])[1]
    np.testing.assert_array_equal(together, alone)


def test_nothing_is_cut_off_a_long_text(encoder: SentenceEncoder) -> None:
    filler = "the speaker goes on about the weather for a while "
    start, end = encoder.encode([filler * 60, filler * 60 + "volcanoes erupt when magma rises"])
    assert not np.allclose(start, end, atol=1e-3)


def test_a_long_text_is_the_weighted_mean_of_its_windows(encoder: SentenceEncoder) -> None:
    size = encoder.max_tokens - 2
    first, second = encoder.encode(["red " * size, "blue " * 100])
    mean = first * (size + 2) + second * 102
    np.testing.assert_allclose(encoder.encode(["red " * size + "blue " * 100])[0], mean / np.linalg.norm(mean), atol=1e-5)


def test_an_empty_text_resembles_no_question(encoder: SentenceEncoder) -> None:
    empty, *questions = encoder.encode(["", "What is a cell?", "Who wrote the play?", "When did the war end?"])
    assert max(float(empty @ question) for question in questions) < 0.2
