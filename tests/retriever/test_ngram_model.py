import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_language import random_model

from retriever.errors import ModelFilesMissing
from retriever.ngram_model import BACKOFF_STEP, BACKOFF_ZERO, STEP, NgramModel


def by_the_book(model: NgramModel, words: tuple[int, ...]) -> float:
    """Return the log-probability of the last word after those before, straight from the definition."""
    stored = model.ngrams
    starts = np.cumsum(stored.num_successors) - stored.num_successors
    bigrams = {
        (first, int(stored.bigram_words[place])): int(place)
        for first, (start, number) in enumerate(zip(starts, stored.num_successors, strict=True))
        for place in range(start, start + number)
    }
    starts = np.cumsum(stored.num_continuations) - stored.num_continuations
    trigrams = {
        (*pair, int(stored.trigram_words[at])): int(at)
        for pair, place in bigrams.items()
        for at in range(starts[place], starts[place] + stored.num_continuations[place])
    }
    if words in trigrams:
        return -STEP * float(stored.trigram_probs[trigrams[words]])
    if words in bigrams:
        return -STEP * float(stored.bigram_probs[bigrams[words]])  # type: ignore[index]
    if len(words) == 1:
        return -STEP * float(stored.word_probs[words[0]])
    weight = 0.0
    if len(words) == 2:
        weight = BACKOFF_STEP * (BACKOFF_ZERO - float(stored.word_backoffs[words[0]]))
    elif words[:2] in bigrams and stored.num_continuations[bigrams[words[:2]]]:  # type: ignore[index]
        weight = BACKOFF_STEP * (BACKOFF_ZERO - float(stored.bigram_backoffs[bigrams[words[:2]]]))  # type: ignore[index]
    return weight + by_the_book(model, words[1:])


@given(st.integers(0, 10_000), st.integers(2, 8))
@settings(max_examples=20)
def test_many_words_at_once_score_as_the_definition_says(seed: int, num_words: int) -> None:
    model = random_model(num_words, np.random.default_rng(seed))
    first, second, third = (grid.reshape(-1) for grid in np.meshgrid(*[np.arange(num_words)] * 3, indexing="ij"))
    said = (second > 0) & (third > 0)
    first, second, third = first[said], second[said], third[said]
    after_one, state = model.score(first, second)
    after_two, _ = model.score(state, third)
    triples = list(zip(first.tolist(), second.tolist(), third.tolist(), strict=True))
    assert after_one == pytest.approx([by_the_book(model, triple[:2]) for triple in triples], abs=1e-4)
    assert after_two == pytest.approx([by_the_book(model, triple) for triple in triples], abs=1e-4)


@given(st.integers(0, 10_000), st.integers(2, 6), st.integers(1, 5))
@settings(max_examples=20)
def test_a_rare_word_is_as_likely_as_its_class_and_as_it_is_within_the_class(seed: int, num_words: int, num_rare: int) -> None:
    model = random_model(num_words, np.random.default_rng(seed), num_rare)
    its_class = num_words - 1
    states = np.array([0, *range(num_words)])
    for rare in range(num_rare):
        number = model.numbers[f"rare{rare}"]
        scores, after = model.score(states, np.full(len(states), number))
        of_class, after_class = model.score(states, np.full(len(states), its_class))
        assert scores - of_class == pytest.approx(scores[0] - of_class[0], abs=1e-5)
        assert np.array_equal(after, after_class)
        assert model.unigrams[number] == pytest.approx(scores[0] - of_class[0] - STEP * float(model.ngrams.word_probs[its_class]), abs=1e-4)
    within = [model.score(np.array([0]), np.array([number]))[0][0] for number in (its_class, *range(num_words, num_words + num_rare))]
    assert math.log(math.fsum(math.exp(one) for one in within[1:])) == pytest.approx(within[0], abs=1e-5)


def test_what_is_likely_without_a_context_is_what_can_be_said() -> None:
    model = random_model(5, np.random.default_rng(3), 4)
    assert np.isneginf(model.unigrams[[0, 4]]).all()
    assert math.fsum(np.exp(model.unigrams.astype(float))) == pytest.approx(1, abs=0.05)
    assert model.log_prob(("<s>",)) == -math.inf
    assert model.log_prob((model.words[4],)) == -math.inf  # the class
    assert model.log_prob(("w1", "rare2")) == pytest.approx(
        model.log_prob(("w1", "rare3"))
        + float(model.unigrams[model.numbers["rare2"]] - model.unigrams[model.numbers["rare3"]]), abs=1e-4
    )  # fmt: skip


def test_a_sentence_scores_as_its_words_in_turn() -> None:
    model = random_model(5, np.random.default_rng(1))
    total = by_the_book(model, (0, 2)) + by_the_book(model, (0, 2, 4)) + by_the_book(model, (2, 4, 1))
    assert model.log_prob(("w2", "w4", "w1")) == pytest.approx(total, abs=1e-4)
    assert model.log_prob(("w2", "unheard")) == -math.inf
    assert model.log_prob(("<s>",)) == -math.inf


@pytest.mark.parametrize("num_rare", [0, 1, 7])
def test_what_is_saved_is_what_is_loaded(tmp_path: Path, num_rare: int) -> None:
    model = random_model(9, np.random.default_rng(2), num_rare)
    model.save(tmp_path / "model.xz")
    loaded = NgramModel.load(tmp_path / "model.xz")
    assert loaded.words == model.words
    for name in model.ngrams.__slots__:
        assert np.array_equal(getattr(loaded.ngrams, name), getattr(model.ngrams, name))


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.xz").write_bytes(b"\x00")
    with pytest.raises(ModelFilesMissing, match="install"):
        NgramModel.load(tmp_path / "model.xz")
