"""The commands that record, through real PortAudio: its microphone is a file, over ALSA's `null` device, faster than real time."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile

from retriever.audio import read_audio
from retriever.config import AudioLimits
from retriever.domain import SAMPLE_RATE_HZ

WAIT_S = 90.0
SECOND_BYTES = 2 * SAMPLE_RATE_HZ

Microphone = Callable[[Path], None]


def has_portaudio() -> bool:
    try:
        import sounddevice  # noqa: F401, PLC0415  fails without PortAudio
    except OSError:
        return False
    return Path("/usr/share/alsa/alsa.conf").exists()


pytestmark = [pytest.mark.portaudio, pytest.mark.skipif(not has_portaudio(), reason="PortAudio or ALSA is not installed")]


@pytest.fixture
def microphone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Microphone:
    """`microphone(path)` makes the default input play a file, then silence for ever."""

    def plug_in(path: Path) -> None:
        sound = read_audio(path, AudioLimits(), 120.0)
        (tmp_path / "said.raw").write_bytes((sound.samples * 32767).astype("<i2").tobytes())
        (tmp_path / "asound.conf").write_text(
            f"""pcm.!default {{
                type plug
                slave {{
                    format S16_LE
                    rate {SAMPLE_RATE_HZ}
                    channels 1
                    pcm {{ type file slave.pcm {{ type null }} file "/dev/null" infile "{tmp_path / "said.raw"}" format "raw" }}
                }}
            }}"""
        )
        monkeypatch.setenv("ALSA_CONFIG_PATH", str(tmp_path / "asound.conf"))

    return plug_in


def start(*arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "app", *arguments, "--json"]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def recorded(home: Path, seconds: float) -> Path:
    """Wait until a recording in progress is this long."""
    give_up_at = time.monotonic() + WAIT_S
    while time.monotonic() < give_up_at:
        for path in (home / "recordings").glob("*.wav"):
            if path.stat().st_size > seconds * SECOND_BYTES:
                return path
        time.sleep(0.02)
    raise AssertionError("nothing is being recorded")


def test_ctrl_c_ends_a_recording_which_then_becomes_a_lecture(
    home: Path, microphone: Microphone, short_lecture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASKALOUD_SEGMENTATION__KIND", "windows")  # digital silence is passed over
    sound = read_audio(short_lecture, AudioLimits(), 120.0).samples[: 8 * SAMPLE_RATE_HZ]
    soundfile.write(tmp_path / "begin.wav", sound, SAMPLE_RATE_HZ)
    microphone(tmp_path / "begin.wav")
    with start("record", "--title", "Live") as recording:
        recorded(home, 10.0)
        recording.send_signal(signal.SIGINT)
        out, err = recording.communicate(timeout=WAIT_S)
    assert recording.returncode == 0, err
    (lecture,) = json.loads(out)["lectures"]
    assert lecture["title"] == "Live"
    assert lecture["duration_s"] >= 10
    assert lecture["num_segments"] >= 1
    assert list((home / "recordings").iterdir()) == []  # it was moved into the library


def test_a_recording_that_was_killed_is_offered_at_the_next_start_and_can_be_added(
    home: Path, microphone: Microphone, short_question: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASKALOUD_SEGMENTATION__KIND", "windows")
    microphone(short_question)
    with start("record") as recording:
        lost = recorded(home, 6.0)
        recording.kill()
    os.utime(lost, (time.time() - 60,) * 2)
    with start("record", "--device", "no such microphone") as again:
        out, err = again.communicate(timeout=WAIT_S)
    assert again.returncode == 2
    assert out == ""
    assert f"askaloud ingest '{lost}'" in err
    assert "error: the microphone cannot be used" in err
    with start("ingest", str(lost)) as adding:
        out, err = adding.communicate(timeout=WAIT_S)
    assert json.loads(out)["lectures"][0]["duration_s"] >= 3
