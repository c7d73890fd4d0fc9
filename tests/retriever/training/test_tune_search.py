import doctest
from pathlib import Path

import numpy as np
import pytest
from tiny_language import random_model, search_in

from retriever.pronunciations import NUM_OUTPUTS, PHONES
from retriever.training import tune_search
from retriever.training.tune_search import Dump, measure, phone_errors

LEXICON = {"w1": [("b", "aa")], "w2": [("k", "iy")]}


@pytest.fixture
def dump(tmp_path: Path) -> Dump:
    """Two clips in which "w1 w2" is heard; in the second something else was said."""
    outputs = [PHONES.index(phone) + 1 if phone else 0 for phone in ("b", "aa", "", "k", "k", "iy", "")]
    log_probs = np.full((len(outputs), NUM_OUTPUTS), -10, np.float16)
    log_probs[np.arange(len(outputs)), outputs] = 0
    path = tmp_path / "dump-made.npz"
    np.savez(path, log_probs_0=log_probs, text_0="w1 w2", log_probs_1=log_probs, text_1="w2 w2")
    return Dump.read(path)


def test_errors_are_counted_over_all_clips(dump: Dump) -> None:
    result = measure(search_in(random_model(3, np.random.default_rng(0)), LEXICON), dump, frozenset())
    assert dump.name == "made"
    assert result.errors == result.oracle == 1 / 4
    assert result.speed > 0


def test_the_likeliest_phones_are_compared_with_the_dictionary(dump: Dump) -> None:
    assert phone_errors(dump, LEXICON) == 2 / 8


def test_the_examples_in_the_text_hold() -> None:
    assert doctest.testmod(tune_search).failed == 0
