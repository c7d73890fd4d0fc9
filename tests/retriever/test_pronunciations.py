from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retriever.errors import ModelFilesMissing
from retriever.pronunciations import NUM_OUTPUTS, PHONES, PhoneTree, Pronunciations

words = st.text("abc", min_size=1, max_size=3)
said = st.lists(st.sampled_from(PHONES[:5]), min_size=1, max_size=5).map(tuple)
lexicons = st.dictionaries(words, st.lists(said, min_size=1, max_size=3), min_size=1, max_size=12)


@given(lexicons)
@settings(max_examples=20)
def test_what_is_saved_is_what_is_loaded(lexicon: dict[str, list[tuple[str, ...]]]) -> None:
    made = Pronunciations.of(lexicon, sorted(lexicon))
    with TemporaryDirectory() as folder:
        made.save(Path(folder) / "lexicon.xz")
        loaded = Pronunciations.load(Path(folder) / "lexicon.xz")
    for name in Pronunciations.__slots__:
        assert np.array_equal(getattr(loaded, name), getattr(made, name))
        assert getattr(loaded, name).dtype == getattr(made, name).dtype


@given(lexicons)
@settings(max_examples=20)
def test_every_pronunciation_leads_to_its_word_and_to_no_other(lexicon: dict[str, list[tuple[str, ...]]]) -> None:
    vocabulary = sorted(lexicon)
    log_probs = -np.arange(1, len(vocabulary) + 1, dtype=np.float32)
    tree = PhoneTree.build(Pronunciations.of(lexicon, vocabulary), log_probs, unusual_cost=0.5)
    paths = {phones for pronunciations in lexicon.values() for phones in pronunciations}
    for phones in paths:
        node = 7  # as entered after some phone
        for depth, phone in enumerate(phones):
            nodes, leads = tree.children(np.array([node]), np.array([PHONES.index(phone) + 1]))
            node = int(nodes[0])
            assert leads[0]
            assert node >= NUM_OUTPUTS
            assert tree.phones[node] == PHONES.index(phone) + 1
            below = [word for word, ways in lexicon.items() if any(way[: depth + 1] == phones[: depth + 1] for way in ways)]
            assert tree.outlooks[node] == max(log_probs[vocabulary.index(word)] for word in below)
        here = slice(tree.first_word[node], tree.first_word[node] + tree.num_words[node])
        costs = {(word, 0.5 * (list(dict.fromkeys(ways)).index(phones) > 0)) for word, ways in lexicon.items() if phones in ways}
        assert {(vocabulary[word], float(cost)) for word, cost in zip(tree.words[here], tree.costs[here], strict=True)} == costs
        further = {other[len(phones)] for other in paths if other[: len(phones)] == phones != other}
        _, leads = tree.children(np.full(NUM_OUTPUTS, node), np.arange(NUM_OUTPUTS))
        assert {PHONES[phone - 1] for phone in np.flatnonzero(leads)} == further
        assert (tree.branches[node] > 0) == bool(further)
    assert len(tree.words) == sum(len(set(ways)) for ways in lexicon.values())


def test_a_dictionary_may_have_more_words_than_sixteen_bits_count(tmp_path: Path) -> None:
    vocabulary = [f"word{number}" for number in range(70_000)]
    made = Pronunciations.of({"word3": [("aa",)], "word69999": [("aa", "b"), ("b",)]}, vocabulary)
    made.save(tmp_path / "lexicon.xz")
    assert Pronunciations.load(tmp_path / "lexicon.xz").words.tolist() == made.words.tolist() == [3, 69_999, 69_999]


def test_a_word_without_a_pronunciation_cannot_be_heard() -> None:
    lexicon = Pronunciations.of({"a": [("ah",)]}, ["a", "b"])
    assert lexicon.words.tolist() == [0]


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lexicon.xz").write_bytes(b"\x00")
    with pytest.raises(ModelFilesMissing, match="install"):
        Pronunciations.load(tmp_path / "lexicon.xz")
