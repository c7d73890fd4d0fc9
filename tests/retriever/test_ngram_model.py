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


def test_a_sentence_scores_as_its_words_in_turn() -> None:
    model = random_model(5, np.random.default_rng(1))
    total = by_the_book(model, (0, 2)) + by_the_book(model, (0, 2, 4)) + by_the_book(model, (2, 4, 1))
    assert model.log_prob(("w2", "w4", "w1")) == pytest.approx(total, abs=1e-4)
    assert model.log_prob(("w2", "unheard")) == -math.inf
    assert model.log_prob(("<s>",)) == -math.inf


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    model = random_model(9, np.random.default_rng(2))
    model.save(tmp_path / "model.xz")
    loaded = NgramModel.load(tmp_path / "model.xz")
    assert loaded.words == model.words
    for name in model.ngrams.__slots__:
        assert np.array_equal(getattr(loaded.ngrams, name), getattr(model.ngrams, name))


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.xz").write_bytes(b"\x00")
    with pytest.raises(ModelFilesMissing, match="install"):
        NgramModel.load(tmp_path / "model.xz")
