import gzip
import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training needs torch (extra `train`)")

from retriever.training.spoken_pairs import PairBatches, SpokenPair, answering, read_pairs

TEXT = "Rain fell for two days. The old bridge in the valley was built by 3 brothers in 1906. Nobody knows why."


def row(context: str, start: int, **more: str) -> dict[str, object]:
    answers = [] if start < 0 else [{"text": "x", "start": start}]
    return {
        "title": "Bridges",
        "context": context,
        "question": "Who built it?",
        "answers": answers,
        "split": "train",
        "level": "passage",
    } | more


def test_the_context_is_the_sentence_around_the_answer_as_it_is_said() -> None:
    said = "the old bridge in the valley was built by three brothers in nineteen six"
    assert answering(row(TEXT, TEXT.index("3 brothers"))) == said
    assert answering(row(TEXT, TEXT.index("The old"))) == said


@pytest.mark.parametrize(
    "unfit",
    [
        row(TEXT, TEXT.index("Nobody")),  # four words
        row("word " * 60, 10),  # longer than 15 s
        row(TEXT, -1),  # nobody says where the answer is
    ],
)
def test_what_cannot_be_spoken_in_time_or_has_no_place_is_left_out(unfit: dict[str, object]) -> None:
    assert answering(unfit) is None


def test_a_sentence_needs_no_place_of_the_answer() -> None:
    assert answering(row("It was built by three brothers long ago.", -1, level="sentence")) == "it was built by three brothers long ago"


def write(folder: Path, name: str, rows: list[dict[str, object]]) -> None:
    with gzip.open(folder / f"{name}.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(map(json.dumps, rows)) + "\n")


def test_what_is_held_out_stays_out_and_a_context_comes_once(tmp_path: Path) -> None:
    place = TEXT.index("3 brothers")
    rows = [row(TEXT, place), row(TEXT, place), row("Held out is this sentence of six words.", 0, split="dev")]
    write(tmp_path, "qed", [*rows, row("The city on two continents has many bridges.", 0, title="Istanbul")])
    assert [pair.article for pair in read_pairs(tmp_path, ["qed"])] == ["Bridges"]


def test_the_last_part_of_the_file_without_titles_is_held_out(tmp_path: Path) -> None:
    names = ("red", "green", "blue", "grey", "black", "white", "brown", "pink", "yellow", "orange")
    write(tmp_path, "nqg_train", [row(f"The {name} bridge was built long ago.", -1, level="sentence", title="") for name in names])
    assert [pair.context.split()[1] for pair in read_pairs(tmp_path, ["nqg_train"])] == list(names[:8])


PAIRS = [SpokenPair(f"q{number}", f"c{number}", f"a{number % 3}") for number in range(24)]


def test_a_batch_holds_groups_of_one_article_and_every_pair_comes_once_a_round() -> None:
    batches = PairBatches(PAIRS, 8, 4, seed=0)
    drawn = [batches.draw(number) for number in range(3)]
    assert sorted(pair.context for batch in drawn for pair in batch) == sorted(pair.context for pair in PAIRS)
    for batch in drawn:
        assert len({pair.article for pair in batch[:4]}) == len({pair.article for pair in batch[4:]}) == 1
    assert batches.draw(3) == drawn[0]
    assert PairBatches(PAIRS, 8, 4, seed=0).draw(1) == drawn[1]
    assert PairBatches(PAIRS, 8, 4, seed=1).draw(1) != drawn[1]


def test_too_few_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="takes 30 pairs, there are 24"):
        PairBatches(PAIRS, 30, 4, seed=0)
