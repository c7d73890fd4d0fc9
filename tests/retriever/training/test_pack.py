"""The pack for a machine that is lent for minutes: made small, used as if far away, and its weights on their way back."""

import csv
import io
import itertools
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402

from retriever.nets.recogniser import Recogniser  # noqa: E402
from retriever.pronunciations import PHONES  # noqa: E402
from retriever.training import _pack_weights, frame, pack  # noqa: E402
from retriever.training._pack_make import ARCHIVE, SCRIPT, SPEECH_ARCHIVE, Contents, PackTooLarge, make_pack  # noqa: E402
from retriever.training._pack_ring import Ring, RingConfig, batch_of, batches, clip_of  # noqa: E402
from retriever.training._pack_voices import Speakers, Voices, speak  # noqa: E402
from retriever.training._pack_weights import WeightsDamaged, WeightsTooLarge, join_checkpoint, split_checkpoint  # noqa: E402
from retriever.training.recogniser import Schedule, Trainer, recogniser_config  # noqa: E402
from retriever.training.speech_shards import Utterance  # noqa: E402
from retriever.training.synthesis import SynthesiserMissing, check_voices  # noqa: E402
from retriever.training.utterances import BatchConfig, PhoneTargets  # noqa: E402

LINES = ("the volcano sleeps below the ice, and nobody counts its years.", "who feeds the grey horses when the river is frozen?")
WORDS = sorted({word for line in LINES for word in "".join(c for c in line if c not in ",.?").split()})
CPU = torch.device("cpu")
SPEAK = """
import sys
from pathlib import Path
from retriever.training import _espeak, _pack_voices
from retriever.training.synthesis import Voice, speak
_pack_voices.load_libraries(Path(sys.argv[1]))
assert _espeak.data_folder().parent == Path(sys.argv[1])
for voice in (Voice("flite", "rms"), Voice("espeak", "scotland+f3")):
    print(speak(voice, "who feeds the grey horses?").audio.num_samples)
for line in open("/proc/self/maps"):
    if "libespeak" in line or "libflite.so" in line:
        assert Path(line.split()[-1]).parent == Path(sys.argv[1]), line
"""


def require_voices() -> None:
    try:
        check_voices("flite")
        check_voices("espeak")
    except SynthesiserMissing as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What training reads: lines, a lexicon with made-up phones, noise."""
    folder = tmp_path_factory.mktemp("spoken")
    (folder / "lines.txt").write_text("\n".join(LINES) + "\n")
    (folder / "phones.txt").write_text(" ".join(PHONES))
    lexicon = [f"{word}\t{' '.join(PHONES[ord(letter) % len(PHONES)] for letter in word)}" for word in WORDS]
    (folder / "lexicon.tsv").write_text("\n".join(lexicon) + "\n")
    generator = np.random.default_rng(0)
    for name in ("noise/hum", "rir/hall"):
        path = folder / "noise" / f"{name}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, generator.normal(0, 0.1, 16_000), 16_000)
    return folder


def voices(spoken: Path, flite: float = 1.0) -> Voices:
    return Voices(spoken / "lines.txt", None, spoken / "noise", {"flite": flite, "espeak": 1 - flite}, seed=3)


def targets(spoken: Path) -> PhoneTargets:
    return PhoneTargets.read(spoken / "lexicon.tsv", spoken / "phones.txt")


def tiny_trainer(folder: Path, steps: int = 10) -> Trainer:
    torch.manual_seed(1)
    return Trainer(Recogniser(recogniser_config(4, 0.0)), Schedule(steps, 2, warmup_steps=2), folder, CPU)


# Speaking


def test_a_process_speaks_the_lines_in_many_voices_and_the_same_for_the_same_seed(spoken: Path) -> None:
    require_voices()
    said = list(itertools.islice(speak(voices(spoken, flite=0.5)), 12))
    assert {one.voice.partition("-")[0] for one in said} == {"flite", "espeak"}
    assert {one.text for one in said} <= {line.translate({ord(c): None for c in ",.?"}) for line in LINES}
    for one in said:
        assert 0 < np.abs(one.pcm).max() <= 32_767
        assert (one.phones is not None) == one.voice.startswith("flite")
        if one.phones is not None:
            assert one.phones[-1].end == len(one.pcm)
    texts = [one.text for one in itertools.islice(speak(voices(spoken, flite=0.5)), 12)]
    assert texts == [one.text for one in said]
    assert texts != [one.text for one in itertools.islice(speak(voices(spoken, flite=0.5), number=1), 12)]


def test_speakers_wait_while_nobody_takes_what_they_made_and_end_with_training(spoken: Path) -> None:
    require_voices()
    with Speakers(voices(spoken), 1, clips_each=3) as speakers:
        first = speakers.next()
        assert first.text
        deadline = time.monotonic() + 30
        while speakers.queue.qsize() < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        assert speakers.queue.qsize() == 3
        assert speakers.next().text
    assert not multiprocessing.active_children()


def test_speakers_that_all_died_are_an_error_not_a_wait(spoken: Path, capfd: pytest.CaptureFixture[str]) -> None:
    missing = Voices(spoken / "absent.txt", None, spoken / "noise", {"flite": 1.0})
    with Speakers(missing, 1) as speakers, pytest.raises(SynthesiserMissing, match="ended"):
        speakers.next()
    assert "absent.txt" in capfd.readouterr().err


# The ring


class OneClip:
    """Stands in for speakers: the same clip for ever."""

    def __init__(self, said: Utterance) -> None:
        self._said = said

    def next(self) -> Utterance:
        time.sleep(0.001)
        return self._said


def clip(num_samples: int, text: str = "the volcano") -> Utterance:
    pcm = np.random.default_rng(num_samples).integers(-3000, 3000, num_samples).astype(np.int16)
    return Utterance(pcm, text, "nobody", "train", None)


def test_the_ring_never_holds_more_than_it_may_and_forgets_the_oldest(spoken: Path) -> None:
    config = RingConfig(BatchConfig({}, 20.0, 30.0), hours=60 / 3600, first_s=10.0)
    ring = Ring(OneClip(clip(16_000)), targets(spoken), config)  # type: ignore[arg-type]
    made = [clip_of(clip(16_000 + number), targets(spoken)) for number in range(100)]
    for one in made:
        assert one is not None
        ring.add(one)
        assert ring.seconds <= 60
    lengths = {one.num_samples for one in ring.draw(np.random.default_rng(0))}
    assert min(lengths) >= 16_000 + 40
    assert ring.seconds > 57


def test_batches_come_from_the_ring_as_soon_as_enough_is_in_it(spoken: Path) -> None:
    config = RingConfig(BatchConfig({}, 6.0, 30.0), hours=1.0, first_s=12.0)
    with Ring(OneClip(clip(32_000)), targets(spoken), config) as ring:  # type: ignore[arg-type]
        batch = next(batches(ring, config, CPU, (0,)))
    assert ring.seconds >= 12
    assert 4.0 <= batch.duration_s <= 6.0
    assert batch.features.shape[0] == batch.mask.shape[0] == len(batch.num_phones) == batch.aligned.shape[0]
    assert batch.mask.all()


def test_a_clip_that_cannot_be_learnt_from_is_left_out(spoken: Path) -> None:
    assert clip_of(clip(32_000, "unheard of"), targets(spoken)) is None
    assert clip_of(clip(4_000), targets(spoken)) is None
    assert clip_of(clip(9_000, " ".join(WORDS)), targets(spoken)) is None
    assert clip_of(clip(32_000), targets(spoken)) is not None


def test_a_batch_has_the_phone_of_each_output_where_flite_tells_it(spoken: Path) -> None:
    require_voices()
    found = [clip_of(one, targets(spoken)) for one in itertools.islice(speak(voices(spoken)), 3)]
    group = [one for one in found if one is not None]
    batch = batch_of(group, BatchConfig({}), CPU, np.random.default_rng(0))
    assert group
    for row, one in zip(batch.aligned, group, strict=True):
        heard = [int(phone) for phone, _ in itertools.groupby(row[row >= 0].tolist()) if phone]
        assert set(heard) <= set(one.phones)
        assert len(heard) > 0.7 * len(one.phones)


# Weights


def test_weights_come_back_as_they_were_to_half_precision_without_the_optimiser(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path / "far")
    trainer.step = 7
    trainer.save()
    pieces = split_checkpoint(tmp_path / "far", tmp_path / "pieces")
    assert join_checkpoint(tmp_path / "pieces", tmp_path / "here") == 7
    assert all(path.stat().st_size <= 16 * 2**20 for path in pieces)
    assert not (tmp_path / "here" / frame.OPTIMISER).exists()
    for name in (frame.NET, frame.AVERAGE):
        sent, come = load_file(tmp_path / "far" / name), load_file(tmp_path / "here" / name)
        assert sent.keys() == come.keys()
        for key, value in sent.items():
            assert come[key].dtype == value.dtype
            torch.testing.assert_close(come[key], value, rtol=1e-3, atol=1e-6)
            if value.ndim < 2:
                assert torch.equal(come[key], value), "the normalisation of the input stays exact"


def test_training_goes_on_with_weights_that_came_and_warms_up_again(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path / "far", steps=2000)
    trainer.step = 500
    trainer.save()
    split_checkpoint(tmp_path / "far", tmp_path / "pieces")
    join_checkpoint(tmp_path / "pieces", tmp_path / "here")
    again = tiny_trainer(tmp_path / "here", steps=2000)
    assert again.resume()
    rates = []
    for step in range(500, 500 + frame.WARM_AGAIN_STEPS + 1):
        again.step = step
        again.prepare()
        rates.append(again.optimiser.param_groups[0]["lr"])
    assert rates[0] == pytest.approx(rates[-1] / frame.WARM_AGAIN_STEPS)
    assert rates == sorted(rates)
    whole = tiny_trainer(tmp_path / "far", steps=2000)
    assert whole.resume()
    whole.prepare()
    assert whole.optimiser.param_groups[0]["lr"] == rates[-1], "with its optimiser it needs no warm-up"


def test_weights_of_several_pieces_are_whole_again_and_the_average_stands_for_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_trainer(tmp_path / "far").save()
    size = (tmp_path / "far" / frame.AVERAGE).stat().st_size
    monkeypatch.setattr(_pack_weights, "PIECE_BYTES", size // 6 + 1)
    with pytest.raises(WeightsTooLarge, match="average alone"):
        split_checkpoint(tmp_path / "far", tmp_path / "pieces")
    pack.bring(tmp_path / "far", tmp_path / "pieces")
    assert len(list((tmp_path / "pieces").iterdir())) == 5
    join_checkpoint(tmp_path / "pieces", tmp_path / "here")
    net, average = load_file(tmp_path / "here" / frame.NET), load_file(tmp_path / "here" / frame.AVERAGE)
    assert all(torch.equal(net[name], average[name]) for name in net)


@pytest.mark.parametrize("harm", ["altered", "absent"])
def test_a_piece_that_is_not_what_was_sent_is_refused(tmp_path: Path, harm: str) -> None:
    tiny_trainer(tmp_path / "far").save()
    piece = split_checkpoint(tmp_path / "far", tmp_path / "pieces")[0]
    piece.unlink() if harm == "absent" else piece.write_bytes(piece.read_bytes()[:-1] + b"?")
    with pytest.raises(WeightsDamaged, match="again"):
        join_checkpoint(tmp_path / "pieces", tmp_path / "here")
    assert not (tmp_path / "here").exists()


# The pack, as if far away


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings in the published layout; their text and sound are made up."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "speech").mkdir()
    rows = []
    with tarfile.open(folder / "speech" / "made.tar", "w") as archive:
        for number in range(12):
            sound = io.BytesIO()
            soundfile.write(sound, np.random.default_rng(number).normal(0, 0.05, 32_000), 16_000, format="OGG", subtype="OPUS")
            entry = tarfile.TarInfo(f"{number}.opus")
            entry.size = len(sound.getvalue())
            archive.addfile(entry, io.BytesIO(sound.getvalue()))
            split, speaker = "dev" if number == 11 else "train", "loud" if number < 8 else "quiet"
            rows.append([entry.name, "2.0", speaker, split, "the volcano sleeps", "made.tar"])
    with (folder / "speech" / "made.tsv").open("w", newline="") as file:
        csv.writer(file, delimiter="\t").writerows([["file", "seconds", "speaker", "split", "text", "tar"], *rows])
    return folder


@pytest.fixture
def contents(spoken: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Contents:
    require_voices()
    tiny_trainer(tmp_path / "before").save()
    monkeypatch.setattr("retriever.training._pack_make._put_lines", lambda path, *_: path.write_text("\n".join(LINES) + "\n"))
    monkeypatch.setattr("retriever.training._pack_make.PRESET", 0)  # fast
    return Contents(data, spoken / "noise", spoken / "lexicon.tsv", spoken / "phones.txt", tmp_path / "before", noise_bytes=100_000)


def check_libraries(folder: Path) -> None:
    """The synthesisers speak with the pack's own files, which need nothing that is not among them but the C library."""
    said = subprocess.run([sys.executable, "-c", SPEAK, str(folder)], capture_output=True, text=True, check=True, env={}).stdout
    assert all(int(length) > 16_000 for length in said.split())
    files = [str(path) for path in folder.glob("*.so*")]
    env = {"LD_LIBRARY_PATH": str(folder)}
    listing = subprocess.run(["/usr/bin/ldd", *files], capture_output=True, text=True, check=True, env=env).stdout
    places = {name: Path(path) for name, path in re.findall(r"^\s*(\S+) => (/\S+|not found)", listing, re.MULTILINE)}
    outside = {name for name, path in places.items() if path.parent != folder}
    assert outside <= {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libgcc_s.so.1", "libstdc++.so.6"}


def test_a_pack_that_cannot_be_small_enough_is_refused(contents: Contents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retriever.training._pack_make._put_synthesisers", lambda folder: folder.mkdir())
    small = Contents(**{name: getattr(contents, name) for name in Contents.__dataclass_fields__} | {"max_bytes": 500_000})
    with pytest.raises(PackTooLarge, match="500000 may be carried"):
        make_pack(small, tmp_path / "pack")


def test_a_pack_trains_with_nothing_installed_survives_a_kill_and_its_weights_go_on_here(contents: Contents, tmp_path: Path) -> None:
    size = make_pack(contents, tmp_path / "pack")
    assert size == sum((tmp_path / "pack" / name).stat().st_size for name in (ARCHIVE, SPEECH_ARCHIVE, SCRIPT)) <= contents.max_bytes
    far = tmp_path / "far"
    command = ["/bin/sh", str(tmp_path / "pack" / SCRIPT), "train", "--device", "cpu", "--speakers", "1", "--first-s", "20"]
    command += ["--batch-s", "10", "--pool-s", "30", "--log-every", "1", "--save-minutes", "0", "--bring", str(tmp_path / "pieces")]
    env = {"PATH": "/nowhere:/usr/bin:/bin", "PYTHON": sys.executable, "ASKALOUD_PACK": str(far)}
    state = far / "checkpoint" / frame.STATE
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen([*command, "--steps", "1000"], env=env, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 120
        while not (state.is_file() and json.loads(state.read_text())["step"] >= 2) and time.monotonic() < deadline:
            assert process.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.1)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    stood = json.loads(state.read_text())["step"]
    assert stood >= 2, (tmp_path / "log").read_text()
    done = subprocess.run([*command, "--steps", str(stood + 2)], env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(state.read_text())["step"] == stood + 2
    assert join_checkpoint(tmp_path / "pieces", tmp_path / "here") == stood + 2
    here = tiny_trainer(tmp_path / "here", stood + 4)
    assert here.resume()
    assert here.step == stood + 2
    check_libraries(far / "lib")
    with (far / "speech" / "real.tsv").open() as table:
        rows = list(csv.DictReader(table, delimiter="\t"))
    assert len(rows) == 11, "no clip that is held out"
    assert {row["speaker"] for row in rows[:2]} == {"loud", "quiet"}, "every speaker alike"
