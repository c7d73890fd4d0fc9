import doctest
import gzip
import shutil
from pathlib import Path

import pytest

from retriever.training import language_text, lexicon
from retriever.training.language_text import Abbreviations, read_sentences, write_texts
from retriever.training.lexicon import by_rule, pronounce, read_cmudict, read_lexicon, write_lexicon

KNOWN = {
    "cat": [("k", "ae", "t")],
    "dog": [("d", "ao", "g")],
    "horse": [("hh", "ao", "r", "s")],
    "a": [("ah",), ("ey",)],
    "d": [("d", "iy")],
    "g": [("jh", "iy")],
    "n": [("eh", "n")],
    "p": [("p", "iy")],
    "u": [("y", "uw")],
}

needs_flite = pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")


def test_a_dictionary_of_the_cmu_format_gives_lower_case_phones_and_all_variants(tmp_path: Path) -> None:
    (tmp_path / "words.dict").write_text("a AH\na(2) EY\ncat K AE T\n", encoding="utf-8")
    assert read_cmudict(tmp_path / "words.dict") == {"a": [("ah",), ("ey",)], "cat": [("k", "ae", "t")]}


@pytest.mark.parametrize(
    ("word", "phones"),
    [("cats", "k ae t s"), ("dog's", "d ao g z"), ("horses", "hh ao r s ih z"), ("dogs", "d ao g z"), ("horse's", "hh ao r s ih z")],
)
def test_an_ending_sounds_as_the_word_before_it_asks(word: str, phones: str) -> None:
    assert pronounce([word], [], KNOWN, {}) == {word: [tuple(phones.split())]}


@pytest.mark.parametrize(("word", "phones"), [("dna", "d iy eh n ey"), ("gpus", "jh iy p iy y uw z"), ("gpu's", "jh iy p iy y uw z")])
def test_an_abbreviation_is_said_letter_by_letter(word: str, phones: str) -> None:
    assert pronounce([word], ["dna", "gpu"], KNOWN, {})[word][0] == tuple(phones.split())


def test_an_abbreviation_that_is_a_word_too_keeps_both() -> None:
    found = pronounce(["dna"], ["dna"], {**KNOWN, "dna": [("d", "n", "ah")]}, {})
    assert found["dna"] == [("d", "iy", "eh", "n", "ey"), ("d", "n", "ah")]


def test_what_was_made_by_rule_before_is_not_made_again() -> None:
    made = {"zigzag": [("z",)], "mute": []}
    assert pronounce(["zigzag", "mute", "cat"], [], KNOWN, made) == {"cat": KNOWN["cat"], "zigzag": [("z",)]}


@needs_flite
def test_flite_says_what_no_dictionary_knows_in_our_phones() -> None:
    said = by_rule(["blorptic", "o'zanian", "wugs", "frindle"])
    assert set(said) == {"blorptic", "o'zanian", "wugs", "frindle"}
    assert [said["wugs"][0][place] for place in (0, -2, -1)] == ["w", "g", "z"]
    assert all(phone in lexicon.PHONES for pronunciations in said.values() for phones in pronunciations for phone in phones)
    assert by_rule(["frindle"]) == {"frindle": said["frindle"]}


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    write_lexicon(KNOWN, tmp_path / "lexicon.tsv")
    assert read_lexicon(tmp_path / "lexicon.tsv") == KNOWN
    assert read_lexicon(tmp_path / "absent.tsv") == {}


def test_the_examples_in_the_text_hold() -> None:
    assert doctest.testmod(language_text).failed == 0
    assert doctest.testmod(lexicon).failed == 0


def test_letters_are_put_together_where_the_writer_put_them_together() -> None:
    abbreviations = Abbreviations(["DNA and RNA", "the WHO said who it is", "an IT job, it is"])
    assert abbreviations.join("d n a in the u s", "DNA in the U.S.") == "dna in the us"
    assert abbreviations.join("d n a is not d n a", "DNA is not D. N. A") == "dna is not dna"
    assert abbreviations.join("w h o said", "WHO said") == "w h o said"  # who is a word, too


def test_evaluation_files_and_held_out_texts_never_reach_the_training_sentences(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for kind in language_text.TEXT_KINDS:
        _write_gzip(
            data / "text" / kind / "one.txt.gz", "".join(f"Paragraph {number} is here. It has {number} parts.\n" for number in range(200))
        )
    row = '{{"context": "{0} {1} context.", "question": "What is {0} {1}?", "split": "{2}"}}\n'
    questions = "".join(row.format("training", number, "train") + row.format("held", number, "dev") for number in range(5))
    _write_gzip(data / "qa" / "made.jsonl.gz", questions)
    _write_gzip(data / "qa" / "nqg_dev_eval.jsonl.gz", row.format("forbidden", 1, "eval"))
    write_texts(data, tmp_path / "out")
    files = {
        path.name: [" ".join(sentence) for sentence in read_sentences(path) if sentence] for path in (tmp_path / "out").glob("*-*.txt")
    }
    assert not any("forbidden" in sentence for sentences in files.values() for sentence in sentences)
    assert files["train-questions-made.txt"] == [f"what is training {number}" for number in ("zero", "one", "two", "three", "four")]
    assert len(files["dev-passages-made.txt"]) == 5
    assert len(files["dev-books.txt"]) >= 2
    assert not set(files["dev-books.txt"]) & set(files["train-books.txt"])
    assert len(files["dev-books.txt"]) + len(files["train-books.txt"]) == 400


def _write_gzip(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()))
