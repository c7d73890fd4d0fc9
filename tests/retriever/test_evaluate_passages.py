import gzip
import json
from pathlib import Path

import pytest

from retriever.training.evaluate_passages import SIDES, evaluate, main, read_pairs

ROWS = [
    {"question": "What makes bread rise?", "context": "Yeast eats sugar and blows gas into the dough.", "paragraph": "1"},
    {"question": "Which organ moves blood?", "context": "The heart is a pump.", "paragraph": "2"},
    {"question": "How many strings has a violin?", "context": "A violin has four strings.", "paragraph": "3"},
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "questions.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in ROWS) + "\n")
    return path


def test_vectors_find_meanings_and_words_and_letters_find_what_was_said(path: Path) -> None:
    pairs = read_pairs(path)
    ranks = evaluate(pairs, pairs, SIDES)
    assert ranks["vectors"] == ranks["fused"] == [1, 1, 1]
    assert ranks["words"][2] == ranks["letters"][2] == 1


def test_packed_questions_are_read_as_plain_ones(path: Path, tmp_path: Path) -> None:
    (tmp_path / "questions.jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert read_pairs(tmp_path / "questions.jsonl.gz") == read_pairs(path)


def test_the_command_prints_a_line_for_each_side(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["evaluate_passages", str(path), "--sample", "2"])
    main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == list(SIDES)
    assert "R@1 100.0" in lines[0]
