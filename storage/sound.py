"""The sound of lectures: the original, the decoded sound, clips."""

from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Final
from uuid import UUID

from retriever.domain import Audio, Samples, Span
from storage.catalogue import Shelf
from storage.errors import SoundMissing
from storage.flac import FlacWriter, read_blocks, read_clip, to_pcm, to_samples
from storage.records import not_found, sound_of
from storage.tables import SoundRow

_BLOCKS_PER_LOOK: Final = 16  # how often the room on the disk is looked at while sound is written


class Sound(Shelf):
    """The part of `storage.base.Lectures` that deals in samples."""

    def original_path(self, lecture_id: UUID) -> Path:
        """Return the file as it was given. Raises NotFound, SoundMissing."""
        sound = self._sound(lecture_id)
        path = self._files.original(sound.content_hash, sound.suffix)
        if not path.is_file():
            raise SoundMissing(f"the original file {path} is gone from the disk; add the same file again, which brings it back")
        return path

    def write_sound(self, lecture_id: UUID, blocks: Iterable[Samples]) -> Generator[Samples, None, None]:
        """Pass the blocks through and keep them, complete only when the generator ends; closed earlier, nothing is kept.

        What is passed on is what is kept, to the sample: rounded to 16 bits. So a lecture is cut alike whether its sound is heard now or
        read again after a crash.

        Raises:
            NotFound: the lecture is gone, also when it goes meanwhile.
            DiskFull: too little room; what was written is removed.
        """
        content_hash = self._sound(lecture_id).content_hash
        with self._files.part() as part:
            with FlacWriter(part) as writer:
                for number, block in enumerate(blocks):
                    if number % _BLOCKS_PER_LOOK == 0:
                        self._files.require_room()
                    pcm = to_pcm(block)
                    writer.write(pcm)
                    yield to_samples(pcm)
            self._keep_speech(lecture_id, content_hash, part, writer.num_samples)

    def has_sound(self, lecture_id: UUID) -> bool:
        """Whether the decoded sound is complete on disk. Raises NotFound."""
        sound = self._sound(lecture_id)
        path = self._files.speech(sound.content_hash)
        return sound.decoded and path.is_file() and path.stat().st_size == sound.decoded_bytes

    def read_sound(self, lecture_id: UUID) -> Generator[Samples, None, None]:
        """Yield the decoded sound in blocks of 5 s. Raises NotFound, SoundMissing."""
        yield from read_blocks(self._speech(lecture_id))

    def clip(self, lecture_id: UUID, span: Span) -> Audio:
        """Cut exactly this span out of the decoded sound (less where the sound ends). Raises NotFound, SoundMissing."""
        return read_clip(self._speech(lecture_id), span)

    def _sound(self, lecture_id: UUID) -> SoundRow:
        with self._db.read() as session:
            return sound_of(session, lecture_id)

    def _speech(self, lecture_id: UUID) -> Path:
        return self._files.speech(self._sound(lecture_id).content_hash)

    def _keep_speech(self, lecture_id: UUID, content_hash: str, part: Path, num_samples: int) -> None:
        with self._files.lock(), self._db.write() as session:
            sound = session.get(SoundRow, content_hash)
            if sound is None:
                raise not_found("lecture", lecture_id)
            sound.decoded_bytes = part.stat().st_size
            self._files.keep(part, self._files.speech(content_hash))
            sound.decoded, sound.num_samples = True, num_samples
