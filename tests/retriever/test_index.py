import json
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retriever.domain import EmbeddedSegment, EncodedQuestion, Segment, Word
from retriever.errors import DeviceUnavailable, IndexDamaged, IndexForeign, IndexMissing, InvalidSegment
from retriever.fusion import Fusion
from retriever.index import LiveIndex, SegmentIndex
from retriever.index_files import read_manifest

D = 16
MAKER = "model-1"
WORDS = ["heart", "blood", "lung", "bread", "yeast", "flour", "violin", "string", "lava", "crater", "ash", "rail", "steam"]


def lecture(number: int) -> UUID:
    return UUID(int=number)


def run(of: int) -> UUID:
    return UUID(int=1_000 + of)


def direction(seed: int) -> np.ndarray:
    vector = np.random.default_rng(seed).normal(size=D).astype(np.float32)
    return vector / np.linalg.norm(vector)


def segment(of: int, place: int, text: str = "", seed: int | None = None) -> EmbeddedSegment:
    start = place * 16_000
    words = tuple(Word(word, start, start + 1) for word in text.split())
    vector = direction(1000 * of + place if seed is None else seed)
    return EmbeddedSegment(Segment(lecture(of), start, start + 16_000, run(of)), vector, words, MAKER)


def talk(of: int, num_segments: int) -> list[EmbeddedSegment]:
    rng = np.random.default_rng(of)
    return [segment(of, place, " ".join(rng.choice(WORDS, 6))) for place in range(num_segments)]


def question(text: str = "", seed: int = 0) -> EncodedQuestion:
    return EncodedQuestion(direction(seed), text, None)


def index_of(*segments: EmbeddedSegment, fusion: Fusion = Fusion()) -> SegmentIndex:  # noqa: B008
    index = SegmentIndex.create(MAKER, D, fusion)
    index.add(segments)
    return index


def found(index: SegmentIndex, asked: EncodedQuestion, k: int, within: Sequence[int]) -> list[tuple[Segment, float]]:
    return [(hit.segment, round(hit.score, 6)) for hit in index.search(asked, k, {lecture(number) for number in within})]


def test_an_empty_index_finds_nothing() -> None:
    assert SegmentIndex.create(MAKER, D).search(question("heart"), 5, {lecture(1)}) == []


def test_the_nearest_segment_comes_first_with_its_evidence() -> None:
    segments = talk(1, 30)
    hit = index_of(*segments).search(EncodedQuestion(segments[17].vector, "", None), 3, {lecture(1)})[0]
    cosines = np.array([one.vector @ segments[17].vector for one in segments])
    assert hit.segment == segments[17].segment
    assert hit.features.cosine == pytest.approx(1.0)
    assert hit.features.margin == pytest.approx(1.0 - float(np.median(cosines)))
    assert hit.features.lexical == hit.features.coverage == 0.0


def test_words_alone_find_a_segment_whose_vector_is_far() -> None:
    segments = [*talk(1, 300), segment(1, 400, "a rare zebra crossed", seed=-1 % 2**32)]
    asked = EncodedQuestion(-segments[-1].vector, "zebra", None)
    hit = next(hit for hit in index_of(*segments, fusion=Fusion(3.0, 10)).search(asked, 5, {lecture(1)}) if hit.features.lexical > 0)
    assert hit.segment == segments[-1].segment
    assert hit.features.cosine == pytest.approx(-1.0)
    assert hit.features.coverage == pytest.approx(1.0)


def test_letters_alone_find_a_segment_whose_words_were_misheard() -> None:
    segments = [*talk(1, 300), segment(1, 400, "beyond say sang", seed=7)]
    asked = EncodedQuestion(-segments[-1].vector, "Beyonce", None)
    hit = index_of(*segments, fusion=Fusion(0.4, 10, gram_weight=3.0)).search(asked, 1, {lecture(1)})[0]
    assert hit.segment == segments[-1].segment
    assert hit.features.lexical == hit.features.coverage == 0.0


def test_features_are_raw_and_the_same_for_candidates_of_both_sides() -> None:
    segments = talk(1, 40)
    asked = question("heart and lava", 3)
    for hit in index_of(*segments, fusion=Fusion(0.4, 3)).search(asked, 6, {lecture(1)}):
        one = next(one for one in segments if one.segment == hit.segment)
        said = [word.text for word in one.words]
        assert hit.features.cosine == pytest.approx(float(one.vector @ asked.vector), abs=1e-5)
        assert (hit.features.lexical > 0) == bool({"heart", "lava"} & set(said))
        assert (hit.features.coverage == 1.0) == ({"heart", "lava"} <= set(said))


@given(st.permutations(range(24)), st.integers(0, 30), st.sampled_from(["", "heart", "lava steam bread"]))
@settings(max_examples=30, deadline=None)
def test_order_of_adding_is_irrelevant(order: list[int], k: int, text: str) -> None:
    segments = [*talk(1, 12), *talk(2, 8), *(segment(3, place, "same", seed=5) for place in range(4))]
    assert found(index_of(*[segments[i] for i in order]), question(text), k, [1, 2, 3]) == found(
        index_of(*segments), question(text), k, [1, 2, 3]
    )


def test_equal_segments_come_in_order_of_lecture_and_time() -> None:
    segments = [segment(of, place, "same words", seed=1) for of in (2, 1) for place in (3, 1, 2)]
    hits = index_of(*segments).search(question("same", 1), 6, {lecture(1), lecture(2)})
    assert [hit.segment for hit in hits] == sorted(one.segment for one in segments)


def test_adding_twice_changes_nothing() -> None:
    once, twice = index_of(*talk(1, 9)), index_of(*talk(1, 9))
    twice.add(talk(1, 9))
    twice.add([*talk(1, 9)[:2], *talk(1, 9)[:2]])
    assert once.ids == twice.ids
    assert found(once, question("heart"), 20, [1]) == found(twice, question("heart"), 20, [1])


def test_removing_is_the_reverse_of_adding() -> None:
    index = index_of(*talk(1, 9), *talk(2, 9))
    index.search(question("heart"), 3, {lecture(1)})
    index.remove([one.segment.id for one in talk(1, 9)])
    index.remove([one.segment.id for one in talk(1, 9)])
    assert index.ids == index_of(*talk(2, 9)).ids
    assert found(index, question("lava"), 20, [1, 2]) == found(index_of(*talk(2, 9)), question("lava"), 20, [2])


@given(st.integers(-2, 40), st.sets(st.integers(1, 4)))
@settings(max_examples=30, deadline=None)
def test_k_is_respected_scores_fall_and_no_hit_is_out_of_scope(k: int, within: set[int]) -> None:
    index = index_of(*talk(1, 9), *talk(2, 3), *talk(3, 14))
    hits = found(index, question("heart lava"), k, list(within))
    assert len(hits) == min(max(k, 0), sum({1: 9, 2: 3, 3: 14}.get(number, 0) for number in within))
    assert [score for _, score in hits] == sorted((score for _, score in hits), reverse=True)
    assert {one.lecture_id for one, _ in hits} <= {lecture(number) for number in within}


def test_what_is_out_of_scope_changes_no_hit() -> None:
    alone, among = index_of(*talk(1, 9)), index_of(*talk(1, 9), *talk(2, 30))
    assert alone.search(question("heart lava"), 5, {lecture(1)}) == among.search(question("heart lava"), 5, {lecture(1)})


def test_a_short_lecture_among_a_hundred_hours_still_yields_its_hits() -> None:
    rng = np.random.default_rng(0)
    asked = question("heart")
    near = rng.normal(size=(14_400, D)).astype(np.float32) * 0.01 + asked.vector  # all nearer than the short lecture
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    index = index_of(*(segment(2, place) for place in range(12)))
    index.add(
        [
            EmbeddedSegment(Segment(lecture(1), 16_000 * i, 16_000 * i + 16_000, run(1)), vector, (Word("heart", 0, 1),), MAKER)
            for i, vector in enumerate(near)
        ]
    )
    hits = index.search(asked, 10, {lecture(2)})
    assert len(hits) == 10
    assert {hit.segment.lecture_id for hit in hits} == {lecture(2)}
    assert {hit.segment.lecture_id for hit in index.search(asked, 10, {lecture(1), lecture(2)})} == {lecture(1)}


def test_vectors_of_another_model_are_refused() -> None:
    one = talk(1, 1)[0]
    for foreign in (
        EmbeddedSegment(one.segment, one.vector, one.words, "model-2"),
        EmbeddedSegment(one.segment, np.ones(D + 1, np.float32), one.words, MAKER),
    ):
        with pytest.raises(IndexForeign):
            index_of(foreign)
    with pytest.raises(IndexForeign):
        index_of(one).search(EncodedQuestion(np.ones(D + 1, np.float32), "", None), 1, {lecture(1)})


@pytest.mark.parametrize("factor", [0.0, 0.5, 2.0, np.nan])
def test_vectors_of_another_length_are_refused_and_nothing_is_added(factor: float) -> None:
    good, bad = talk(1, 2)
    index = index_of()
    with pytest.raises(InvalidSegment, match="length 1"):
        index.add([good, EmbeddedSegment(bad.segment, bad.vector * np.float32(factor), bad.words, MAKER)])
    assert index.ids == set()


HAS_GPU = hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0


@pytest.mark.skipif(HAS_GPU, reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeviceUnavailable, match="faiss-gpu"):
        SegmentIndex.create(MAKER, D, device="cuda")
    index_of(*talk(1, 2)).save(tmp_path, 1)
    with pytest.raises(DeviceUnavailable, match="faiss-gpu"):
        LiveIndex(tmp_path, MAKER, D, device="cuda").current()


@pytest.mark.skipif(not HAS_GPU, reason="needs faiss-gpu and a GPU")
def test_a_gpu_finds_what_the_processor_finds() -> None:
    index = SegmentIndex.create(MAKER, D, device="cuda")
    index.add([*talk(1, 30), *talk(2, 30)])
    for within in ([1], [1, 2]):
        assert found(index, question("heart lava"), 9, within) == found(
            index_of(*talk(1, 30), *talk(2, 30)), question("heart lava"), 9, within
        )


# On disk


def test_saved_and_opened_is_the_same(tmp_path: Path) -> None:
    index = index_of(*talk(1, 9), *talk(2, 5), segment(3, 1, ""), segment(3, 2, "naïve café"))
    index.save(tmp_path, 4)
    opened = SegmentIndex.open(tmp_path, MAKER, D)
    assert opened.ids == index.ids
    asked = question("heart of the cafés")
    assert opened.search(asked, 20, {lecture(n) for n in (1, 2, 3)}) == index.search(asked, 20, {lecture(n) for n in (1, 2, 3)})
    opened.add(talk(4, 3))
    opened.remove([one.segment.id for one in talk(1, 9)])
    assert found(opened, question("lava"), 9, [1, 2, 4]) == found(index_of(*talk(2, 5), *talk(4, 3)), question("lava"), 9, [2, 4])


def test_an_empty_index_can_be_saved(tmp_path: Path) -> None:
    index_of().save(tmp_path, 0)
    opened = SegmentIndex.open(tmp_path, MAKER, D)
    assert opened.ids == set()
    opened.add(talk(1, 2))
    assert len(found(opened, question("heart"), 5, [1])) == 2


def test_saving_keeps_only_the_latest_generation(tmp_path: Path) -> None:
    index = index_of(*talk(1, 3))
    for generation in (1, 2, 2, 5):
        index.add(talk(generation, 4))
        index.save(tmp_path, generation)
    manifest = read_manifest(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"manifest.json", *manifest.files.values()}
    assert (manifest.generation, manifest.count, manifest.dimension) == (5, len(index.ids), D)


def test_no_index_is_missing_not_damaged(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(IndexMissing, match="rebuild"):
            SegmentIndex.open(folder, MAKER, D)


def test_an_index_of_another_model_is_foreign(tmp_path: Path) -> None:
    index_of(*talk(1, 3)).save(tmp_path, 1)
    with pytest.raises(IndexForeign, match="model-1"):
        SegmentIndex.open(tmp_path, "model-2", D)
    with pytest.raises(IndexForeign, match="16 dimensions"):
        SegmentIndex.open(tmp_path, MAKER, D + 1)


@pytest.mark.parametrize("seed", range(12))
def test_any_altered_byte_is_noticed(tmp_path: Path, seed: int) -> None:
    index_of(*talk(1, 5)).save(tmp_path, 1)
    rng = np.random.default_rng(seed)
    path = sorted(tmp_path.glob("*.bin"))[seed % 2]
    data = bytearray(path.read_bytes())
    data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
    path.write_bytes(data)
    with pytest.raises(IndexDamaged, match="altered"):
        SegmentIndex.open(tmp_path, MAKER, D)


@pytest.mark.parametrize("part", [0, 1])
def test_short_and_absent_files_are_damage(tmp_path: Path, part: int) -> None:
    index_of(*talk(1, 5)).save(tmp_path, 1)
    path = sorted(tmp_path.glob("*.bin"))[part]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IndexDamaged):
        SegmentIndex.open(tmp_path, MAKER, D)
    path.unlink()
    with pytest.raises(IndexDamaged):
        SegmentIndex.open(tmp_path, MAKER, D)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 99},
        {"files": {}},
        {"files": {"vectors": "../other.bin", "segments": "x"}},
        {"files": 3},
        {"unknown": 1},
        {"count": None, "sha256": None},
    ],
)
def test_a_manifest_that_is_none_is_damage(tmp_path: Path, change: dict[str, object]) -> None:
    index_of(*talk(1, 5)).save(tmp_path, 1)
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(IndexDamaged):
        SegmentIndex.open(tmp_path, MAKER, D)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '"x"', "\x00"])
def test_a_manifest_that_is_no_record_is_damage(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(IndexDamaged):
        SegmentIndex.open(tmp_path, MAKER, D)


def test_vectors_and_segments_of_different_indexes_do_not_open(tmp_path: Path) -> None:
    index_of(*talk(1, 5)).save(tmp_path / "a", 1)
    index_of(*talk(2, 5)).save(tmp_path / "b", 1)
    a, b = (json.loads((tmp_path / name / "manifest.json").read_text()) for name in "ab")
    for key in ("files", "sha256"):
        a[key]["vectors"] = b[key]["vectors"]
    shutil.copy(tmp_path / "b" / b["files"]["vectors"], tmp_path / "a")
    (tmp_path / "a" / "manifest.json").write_text(json.dumps(a))
    with pytest.raises(IndexDamaged, match="do not fit together"):
        SegmentIndex.open(tmp_path / "a", MAKER, D)


def test_a_save_that_was_killed_leaves_the_old_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = index_of(*talk(1, 5))
    index.save(tmp_path, 1)
    before = index.ids
    index.add(talk(2, 5))
    replace = Path.replace
    steps_to_live = 0

    def killed(path: Path, target: Path) -> Path:
        nonlocal steps_to_live
        if steps_to_live == 0:
            raise KeyboardInterrupt
        steps_to_live -= 1
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        for num_steps in (0, 1, 2):  # vectors, segments, manifest
            steps_to_live = num_steps
            with pytest.raises(KeyboardInterrupt):
                index.save(tmp_path, 2)
            assert SegmentIndex.open(tmp_path, MAKER, D).ids == before
    index.save(tmp_path, 2)
    assert SegmentIndex.open(tmp_path, MAKER, D).ids == index.ids
    assert len(list(tmp_path.iterdir())) == 3


def test_a_reader_sees_each_new_generation_and_keeps_what_did_not_change(tmp_path: Path) -> None:
    live = LiveIndex(tmp_path / "index", MAKER, D)
    assert live.current() is None
    index = index_of(*talk(1, 5))
    index.save(tmp_path / "index", 1)
    first = live.current()
    assert first is not None
    assert first.ids == index.ids
    assert live.current() is first
    index.add(talk(2, 5))
    assert live.current() is first
    index.save(tmp_path / "index", 2)
    second = live.current()
    assert second is not None
    assert second.ids == index.ids
    shutil.rmtree(tmp_path / "index")
    assert live.current() is None


def test_a_reader_says_what_is_wrong(tmp_path: Path) -> None:
    index_of(*talk(1, 5)).save(tmp_path, 1)
    with pytest.raises(IndexForeign):
        LiveIndex(tmp_path, "model-2", D).current()
    next(tmp_path.glob("*.bin")).write_bytes(b"")
    with pytest.raises(IndexDamaged):
        LiveIndex(tmp_path, MAKER, D).current()


def test_readers_never_stumble_over_a_busy_writer(tmp_path: Path) -> None:
    live, over, failures, seen = LiveIndex(tmp_path, MAKER, D), threading.Event(), [], set()

    def read() -> None:
        while not over.is_set():
            try:
                index = live.current()
                if index is not None:
                    seen.add(len(index.search(question("heart"), 100, {lecture(1)})))
            except Exception as error:
                failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    index = index_of()
    for generation, one in enumerate(talk(1, 30)):
        index.add([one])
        index.save(tmp_path, generation)
    over.set()
    for reader in readers:
        reader.join()
    assert failures == []
    assert seen <= set(range(1, 31))
    assert live.current().ids == index.ids  # type: ignore[union-attr]
