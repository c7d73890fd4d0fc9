"""What is known of families of speech LLMs, and that nothing is guessed of others."""

import json
from pathlib import Path

import pytest

from generator.errors import FamilyUnknown
from generator.families import FAMILIES, family_of, named_family
from retriever.domain import MAX_SEGMENT_SAMPLES, to_samples


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("Qwen/Qwen2-Audio-7B-Instruct", "qwen2-audio"),
        ("Qwen/Qwen2.5-Omni-7B", "qwen2.5-omni"),
        ("Qwen3-Omni-30B-A3B-Instruct", "qwen3-omni"),
        ("mistralai/Voxtral-Mini-3B-2507", "voxtral"),
        ("fixie-ai/ultravox-v0_5-llama-3_2-1b", "ultravox"),
        ("microsoft/Phi-4-multimodal-instruct", "phi-4-multimodal"),
        ("ibm-granite/granite-speech-3.3-8b", "granite-speech"),
        ("google/gemma-3n-E4B-it", "gemma-3n"),
        ("some/folder/askaloud-speech-llm/", "askaloud"),
    ],
)
def test_a_model_belongs_to_its_family_by_its_name(model: str, family: str) -> None:
    assert family_of(model) is named_family(family)


@pytest.mark.parametrize("model", ["", "tiny", "meta-llama/Llama-3.1-8B", "qwen2-audio/other"])
def test_of_an_unknown_model_nothing_is_guessed(model: str) -> None:
    with pytest.raises(FamilyUnknown, match=r"set the generator's `family` to one of .*voxtral"):
        family_of(model)


def test_an_unknown_family_is_refused_and_the_known_are_named() -> None:
    with pytest.raises(FamilyUnknown, match=r"'gpt' .*qwen2-audio"):
        named_family("gpt")


def test_names_are_distinct_and_each_pattern_finds_its_own_family() -> None:
    assert len({one.name for one in FAMILIES}) == len(FAMILIES)
    for family in FAMILIES:
        for pattern in family.matches:
            assert family_of(pattern.replace("*", "x")) is family


@pytest.mark.parametrize("family", FAMILIES, ids=lambda one: one.name)
def test_a_family_takes_at_least_one_whole_moment_and_the_server_is_told_how_many_sounds(family) -> None:  # type: ignore[no-untyped-def]
    assert to_samples(family.max_clip_s) >= MAX_SEGMENT_SAMPLES  # a moment found is never cut but for the question beside it
    assert family.max_clips == 1 or family.multi_audio
    limit = json.loads(family.serve_flags[family.serve_flags.index("--limit-mm-per-prompt") + 1])
    assert limit == {"audio": family.max_clips}


def test_the_table_in_the_documentation_is_that_of_the_records() -> None:
    page = (Path(__file__).parents[2] / "docs" / "served.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("| `")]
    assert rows[: len(FAMILIES)] == [
        [
            f"`{one.name}`",
            one.title,
            f"{one.max_clip_s:g} s",
            str(one.max_clips) if one.multi_audio else "1, joined",
            "yes" if one.structured else "no",
            "run here" if one.verified else "unverified",
            one.note,
        ]
        for one in FAMILIES
    ]
