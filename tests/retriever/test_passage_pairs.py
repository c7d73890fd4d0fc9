import gzip
import json
from pathlib import Path

import pytest

from retriever.training.passage_pairs import MAX_WORDS, MIN_WORDS, Passage, read_passages

FILES = ("new_wiki", "qed", "clapnq", "covid_qa", "openstax_questions", "fairytale_qa", "qamr", "openstax_glossary", "medquad")


def row(context: str, question: str, start: int = -1, **more: object) -> dict[str, object]:
    return {"title": "T", "split": "train", "context": context, "question": question, "answers": [{"text": "x", "start": start}], **more}


def long_text(num_words: int) -> str:
    return " ".join(
        f"word{'abcdefghij'[place % 10]}{'klmnopqrst'[place // 10 % 10]}{'uvwxyz'[place // 100 % 6]}" for place in range(num_words)
    )


def write(folder: Path, **files: list[dict[str, object]]) -> Path:
    for name in (*FILES, "nqg_train"):
        lines = "".join(json.dumps(one) + "\n" for one in files.get(name, []))
        (folder / f"{name}.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    return folder


def test_a_long_passage_is_cut_and_each_question_keeps_its_answer(tmp_path: Path) -> None:
    text = long_text(400)
    places = {f"where is it number {place}?": text.index(text.split()[place]) for place in (3, 180, 390)}
    passages = read_passages(write(tmp_path, new_wiki=[row(text, question, start) for question, start in places.items()]), 1)
    assert all(len(one.text.split()) <= MAX_WORDS for one in passages)
    assert all(len(one.text.split()) >= MIN_WORDS for one in passages[:-1])
    for place in (3, 180, 390):
        (holding,) = [one for one in passages if f"where is it number {place}?" in one.questions]
        assert text.split()[place] in holding.text.split()
    assert " ".join(one.text for one in passages) == text


def test_questions_of_one_passage_stay_together(tmp_path: Path) -> None:
    text = "The heart is a pump of muscle that never rests."
    (one,) = read_passages(write(tmp_path, new_wiki=[row(text, "what is the heart?", 4), row(text, "what never rests?", 4)]), 1)
    assert one.questions == ("what is the heart?", "what never rests?")
    assert one.text == "the heart is a pump of muscle that never rests"


@pytest.mark.parametrize(
    "mark", [{"split": "dev"}, {"title": "Istanbul"}]
)  # fmt: skip
def test_a_passage_with_one_held_out_row_is_held_out_whole(tmp_path: Path, mark: dict[str, object]) -> None:
    text = "The heart is a pump of muscle that never rests."
    rows = [row(text, "what is the heart?", 4), row(text, "what never rests?", 4, **mark)]
    assert [one.is_development for one in read_passages(write(tmp_path, new_wiki=rows), 1)] == [True]


def test_evaluation_rows_clozes_and_poor_matches_are_left_out(tmp_path: Path) -> None:
    text = "The heart is a pump of muscle that never rests."
    rows = [
        row(text, "what is the heart?", split="eval"),
        row(text, "The heart is ...", kind="cloze"),
        row(text, "what is a pump?", match=0.3),
        row(text, "heart what?"),
    ]
    assert read_passages(write(tmp_path, openstax_questions=rows), 1) == []


def test_neighbouring_sentences_become_passages_and_the_last_are_held_out(tmp_path: Path) -> None:
    sentences = [f"{long_text(25)} end {'abcdefghijklmnopqrstuvwxyz'[place % 26] * (place // 26 + 1)}" for place in range(60)]
    rows = [{**row(sentence, f"what is in it number {place}?"), "answers": []} for place, sentence in enumerate(sentences)]
    passages = read_passages(write(tmp_path, nqg_train=rows), 1)
    assert [question for one in passages for question in one.questions] == [str(one["question"]) for one in rows]
    assert all(80 <= len(one.text.split()) <= 130 for one in passages)
    held_out = [one.is_development for one in passages]
    assert held_out == sorted(held_out)
    assert 0 < sum(held_out) < len(held_out) / 3


def test_development_passages_do_not_depend_on_the_seed(tmp_path: Path) -> None:
    folder = write(tmp_path, new_wiki=[row(long_text(500), f"what is it {split} number?", 9, split=split) for split in ("dev",)])
    assert read_passages(folder, 1) == read_passages(folder, 2)
    assert isinstance(read_passages(folder, 1)[0], Passage)
