"""What training speech says."""

import gzip
import json
import random
from itertools import islice
from pathlib import Path

import pytest

from retriever.training.speech_text import MAX_WORDS, MIN_WORDS, Line, TextMissing, cut, is_held_out, read_speech_text, sentences

PARAGRAPH = (
    "Dr. Fox keeps 12 hens, three ducks and a goose. Why does he? Nobody in the village knows. x² + y² = z² is hard to read aloud. "
    "In the evening, when the sun goes down behind the hills, he counts them again, one after the other, from the oldest hen to the "
    "youngest duck, writes their number into a small green book, closes the door, and goes to sleep."
)
QUESTION_FILES = """
new_wiki nqg_train openstax_questions nq_open_questions qed qamr fairytale_qa openstax_glossary medquad clapnq covid_qa qmsum
"""


def write_texts(data: Path, num_paragraphs: int = 400) -> None:
    """Write a small folder of texts and questions, each paragraph different."""
    for kind in ("openstax", "books", "other", "spoken"):
        (data / "text" / kind).mkdir(parents=True)
        lines = [f"# {kind}"] + [f"Book {kind} has page {number}. {PARAGRAPH}" for number in range(num_paragraphs)]
        (data / "text" / kind / "one.txt.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    (data / "qa").mkdir()
    for name in QUESTION_FILES.split():
        rows = [{"question": f"Who asked question {number} of a set?", "split": "dev" if number % 2 else "train"} for number in range(20)]
        rows.append({"question": "The answer is a blank.", "split": "train", "kind": "cloze"})
        (data / "qa" / f"{name}.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    (data / "qa" / "nqg_dev_eval.jsonl.gz").write_bytes(b"never opened")


def test_sentences_end_at_full_stops_but_not_after_titles_and_initials() -> None:
    assert sentences('Mr. J. Fox met Dr. Hen. "Why?" he asked. It was No. 7.') == [
        "Mr. J. Fox met Dr. Hen.",
        '"Why?" he asked.',
        "It was No. 7.",
    ]


@pytest.mark.parametrize("seed", range(5))
def test_lines_have_a_clips_length_and_never_mix_what_an_unreadable_sentence_parts(seed: int) -> None:
    lines = list(cut(sentences(PARAGRAPH), random.Random(seed)))
    assert all(MIN_WORDS <= len(line.text.split()) <= MAX_WORDS for line in lines)
    said = " ".join(line.text for line in lines)
    assert "doctor fox keeps twelve hens three ducks and a goose" in said
    assert not any("knows" in line.text and "evening" in line.text for line in lines)
    assert "squared" not in said


def test_a_short_question_that_stands_alone_is_dropped_and_a_longer_one_ends_as_a_question() -> None:
    assert list(cut(["Why?"], random.Random(0))) == []
    (line,) = cut(["Who counts the hens, and why?"], random.Random(0))
    assert line == Line(("who counts the hens", "and why"), is_question=True)
    assert line.punctuated == "who counts the hens, and why?"
    assert line.text == "who counts the hens and why"


def test_development_and_training_share_no_paragraph_and_no_question(tmp_path: Path) -> None:
    write_texts(tmp_path)
    train, dev = (read_speech_text(tmp_path, split) for split in ("train", "dev"))
    for kind in ("openstax", "books", "other", "spoken"):
        assert train.paragraphs[kind]
        assert dev.paragraphs[kind]
        assert not {*train.paragraphs[kind]} & {*dev.paragraphs[kind]}
        assert all(map(is_held_out, dev.paragraphs[kind]))
    assert not {*train.questions["qed"]} & {*dev.questions["qed"]}
    assert "The answer is a blank." not in train.questions["qed"]


def test_a_seed_decides_every_line_and_a_quarter_are_questions(tmp_path: Path) -> None:
    write_texts(tmp_path)
    text = read_speech_text(tmp_path, "train")
    lines = list(islice(text.lines(random.Random(7)), 600))
    assert lines == list(islice(text.lines(random.Random(7)), 600))
    assert lines != list(islice(text.lines(random.Random(8)), 600))
    asked = sum(line.is_question for line in lines) / len(lines)
    assert 0.05 < asked < 0.4  # a quarter of the draws; a paragraph gives up to three lines


def test_a_folder_without_texts_is_named(tmp_path: Path) -> None:
    with pytest.raises(TextMissing, match="openstax has no"):
        read_speech_text(tmp_path, "train")
