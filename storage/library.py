"""SqlLibrary: the three shelves over one database and one folder."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from sqlalchemy import select, text

from storage.config import StorageConfig
from storage.database import Database, open_engine
from storage.errors import StorageError
from storage.files import Kind, SoundFiles
from storage.history import SqlHistory
from storage.jobs import SqlJobs
from storage.lectures import SqlLectures
from storage.removal import referred, sweep, sweep_if_free
from storage.schema import HEAD, current_revision, prepare, read_vector_type
from storage.tables import LectureRow, QuestionRow, SoundRow

_NAMED: Final = 3  # how many of many like things `check` names


class SqlLibrary:
    """`storage.base.Library` over SQLite or PostgreSQL, and files. Share one among the threads of a process."""

    def __init__(self, config: StorageConfig) -> None:
        """Open the library; it is made or upgraded if need be, and what a crash left is swept.

        Raises:
            SchemaTooNew: a newer version wrote it.
            DatabaseUnusable: it cannot be opened.
            DiskFull: no room to make or upgrade it.
        """
        prepare(config)
        engine = open_engine(config)
        read_vector_type(engine)
        self._db = Database(engine)
        self._files = SoundFiles(config.folder, config.min_free_bytes)
        self.lectures: Final = SqlLectures(self._db, self._files)
        self.jobs: Final = SqlJobs(self._db, self._files)
        self.history: Final = SqlHistory(self._db, self._files)
        sweep_if_free(self._db, self._files)

    def sweep(self) -> int:
        """Remove files that a crash left half kept, half removed or half written; return how many.

        Raises:
            DatabaseUnusable: others are busy with files for long.
        """
        return sweep(self._db, self._files, timeout_s=10.0)

    def disk_usage(self) -> Mapping[str, int]:
        """Return bytes: "sound", "database", "free"."""
        return {"sound": self._files.num_bytes(), "database": self._database_bytes(), "free": self._files.free_bytes()}

    def check(self) -> Sequence[str]:
        """Return what is wrong, a sentence each with the way out; empty if all is well."""
        try:
            return [*self._check_database(), *self._check_sounds(), *self._check_questions(), *self._check_files()]
        except StorageError as error:
            return [str(error)]

    def close(self) -> None:
        """Give back connections."""
        self._db.close()

    def _database_bytes(self) -> int:
        if self._db.is_sqlite:
            file = str(self._db.engine.url.database)
            return sum(path.stat().st_size for end in ("", "-wal", "-shm") if (path := Path(file + end)).exists())
        with self._db.read() as session:
            return int(session.execute(text("SELECT pg_database_size(current_database())")).scalar_one())

    def _check_database(self) -> Iterator[str]:
        with self._db.read() as session:
            revision = current_revision(session.connection())
            if revision != HEAD:
                yield f"The database has schema {revision}, not {HEAD}: close everything and open it again, which upgrades it."
            if not self._db.is_sqlite:
                return
            said = session.scalars(text("PRAGMA integrity_check(1)")).one()
            if said != "ok":
                yield f"The database is damaged ({said}): stop everything and put a backup in the place of {self._db.engine.url.database}."
            astray = session.execute(text("PRAGMA foreign_key_check")).first()
            if astray is not None:
                yield f"A row of table {astray[0]} points at nothing in {astray[2]}: put a backup in place, or report this."

    def _check_sounds(self) -> Iterator[str]:
        with self._db.read() as session:
            rows = session.execute(
                select(LectureRow.title, SoundRow).join(SoundRow, SoundRow.content_hash == LectureRow.content_hash)
            ).all()
        for title, sound in rows:
            original, speech = self._files.original(sound.content_hash, sound.suffix), self._files.speech(sound.content_hash)
            if not original.is_file() or original.stat().st_size != sound.num_bytes:
                yield f"The original file of {title!r} is gone or cut short: add the same file again, which brings it back."
            if sound.decoded and (not speech.is_file() or speech.stat().st_size != sound.decoded_bytes):
                yield f"The sound of {title!r} is gone or cut short, it cannot be played: delete the lecture and add its file again."

    def _check_questions(self) -> Iterator[str]:
        with self._db.read() as session:
            hashes = session.scalars(select(QuestionRow.audio_hash).where(QuestionRow.audio_hash.is_not(None))).all()
        missing = [one for one in hashes if one is not None and not self._files.question(one).is_file()]
        if missing:
            yield f"The sound of {len(missing)} questions is gone from the disk; their words are still there: delete them or leave them."

    def _check_files(self) -> Iterator[str]:
        kept = set(self._files.kept())
        astray: list[str] = []
        with self._db.read() as session:
            for kind in Kind:
                hashes = {content_hash for other, content_hash in kept if other is kind}
                astray += sorted(hashes - referred(session, kind, hashes))
        if astray:
            named = ", ".join(one[:12] for one in astray[:_NAMED])
            yield (
                f"{len(astray)} sounds in {self._files.folder} belong to no lecture and no question ({named} …): they are of another"
                " database, or of a crash on a full disk; delete them by hand if you miss nothing."
            )
