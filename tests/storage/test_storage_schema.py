"""The schema is made, upgraded with a backup, or refused; databases of every released schema are read."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from alembic.script import ScriptDirectory
from sqlalchemy.exc import OperationalError

from generator.domain import Citation
from retriever.domain import Span, Word
from storage.build import open_library
from storage.config import StorageConfig
from storage.database import DATABASE_NAME
from storage.domain import LOCAL_OWNER, HistoryQuery, JobState
from storage.errors import DatabaseUnusable, SchemaTooNew
from storage.schema import HEAD, MIGRATIONS, prepare

RELEASED = sorted((Path(__file__).parents[1] / "data").glob("schema-*"))


def make_database(folder: Path, dump: Path) -> Path:
    """Make a database file from a dump of a released schema."""
    folder.mkdir(parents=True)
    with closing(sqlite3.connect(folder / DATABASE_NAME)) as connection:
        connection.executescript(dump.read_text(encoding="utf-8"))
    return folder / DATABASE_NAME


def revision_of(database: Path) -> str:
    with closing(sqlite3.connect(database)) as connection:
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


@pytest.fixture
def next_migrations(tmp_path: Path) -> Iterator[Path]:
    """The migrations and one more, as a later version will have it."""
    folder = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / "9999_next.py").write_text(
        f'''"""Next."""
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "9999", "{HEAD}", None, None


def upgrade() -> None:
    with op.batch_alter_table("lectures", recreate="always") as table:  # makes the table anew, with all that hangs on it
        table.add_column(sa.Column("subtitle", sa.Text(), nullable=False, server_default="none yet"))
''',
        encoding="utf-8",
    )
    return folder


def test_the_newest_revision_is_the_one_this_version_knows() -> None:
    assert ScriptDirectory(str(MIGRATIONS)).get_heads() == [HEAD]


def test_every_released_schema_has_a_database_to_test_with() -> None:
    revisions = {script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()}
    assert {folder.name.removeprefix("schema-") for folder in RELEASED} == revisions


@pytest.mark.parametrize("released", RELEASED, ids=lambda folder: folder.name)
def test_a_database_of_a_released_schema_is_opened_and_reads(released: Path, tmp_path: Path) -> None:
    make_database(tmp_path / "library", released / "askaloud.db.sql")
    library = open_library(StorageConfig(tmp_path / "library", min_free_bytes=0))
    (info,) = library.lectures.list(LOCAL_OWNER, "first-model")
    assert (info.lecture.title, info.course, info.file_name) == ("On falling bodies", "Physics", "falling.wav")
    assert (info.num_segments, info.num_embedded, info.lecture.num_samples) == (2, 2, 48_000)
    assert info.warning == "the last second is silent"
    assert info.job is not None
    assert (info.job.state, info.job.done, info.job.attempts) == (JobState.DONE, 2, 1)
    heard = library.lectures.heard(info.lecture.id, LOCAL_OWNER, "first-model")
    assert heard[0].words == (Word("apples", 0, 5000, 0.75), Word("fall", 5000, 9000, 0.5))
    vectors = {one.segment.start: one.vector for one in library.lectures.embedded("first-model")}
    np.testing.assert_array_equal(vectors[0], np.array([0.6, 0.8], np.float32))
    sings, falls = library.history.find(LOCAL_OWNER, HistoryQuery(), 10).entries
    assert (falls.question.wording, falls.question.heard, falls.has_audio) == ("what falls?", "what false", True)
    assert falls.question.scope == {info.lecture.id}
    assert falls.answer is not None
    assert falls.answer.citations == (Citation(heard[0].segment, Span(0, 9000), "apples fall"),)
    assert falls.answer.note == ("" if released.name == "schema-0001" else "The model server could not be reached.")
    assert falls.evidence[0].hit.features.coverage == 1.0
    assert not falls.evidence[0].lecture_deleted
    assert falls.timings_ms == {"encode": 1.0, "search": 2.0, "answer": 3.0, "total": 6.0}
    assert sings.question.corrects == falls.question.id
    assert sings.answer is not None
    assert not sings.answer.supported
    assert sings.answer.nearest[0].text == "feathers float"
    assert library.lectures.generation("first-model") == 1
    assert revision_of(tmp_path / "library" / DATABASE_NAME) == HEAD
    library.lectures.delete(info.lecture.id, LOCAL_OWNER)
    library.close()


def test_an_older_database_is_copied_before_it_is_upgraded(tmp_path: Path, next_migrations: Path) -> None:
    database = make_database(tmp_path / "library", RELEASED[-1] / "askaloud.db.sql")
    prepare(StorageConfig(tmp_path / "library"), next_migrations, "9999")
    backup = tmp_path / "library" / f"{DATABASE_NAME}.backup-{HEAD}"
    assert (revision_of(database), revision_of(backup)) == ("9999", HEAD)
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT title, subtitle FROM lectures").fetchall() == [("On falling bodies", "none yet")]
        assert connection.execute("SELECT count(*) FROM segments").fetchone() == (2,)  # what hangs on the table made anew is still there
        assert connection.execute("SELECT count(*) FROM transcripts").fetchone() == (2,)
    backup.replace(database)
    (tmp_path / "library" / f"{DATABASE_NAME}-wal").unlink(missing_ok=True)
    library = open_library(StorageConfig(tmp_path / "library"))
    assert len(library.lectures.list(LOCAL_OWNER, "first-model")) == 1
    library.close()


def test_a_new_database_is_not_backed_up(tmp_path: Path) -> None:
    prepare(StorageConfig(tmp_path))
    assert not list(tmp_path.glob("*backup*"))


def test_a_migration_that_fails_leaves_the_older_schema(tmp_path: Path, next_migrations: Path) -> None:
    database = make_database(tmp_path / "library", RELEASED[-1] / "askaloud.db.sql")
    script = next_migrations / "versions" / "9999_next.py"
    script.write_text(script.read_text(encoding="utf-8") + '    op.execute("INSERT INTO no_such VALUES (1)")\n', encoding="utf-8")
    with pytest.raises(DatabaseUnusable, match="no such table") as caught:
        prepare(StorageConfig(tmp_path / "library"), next_migrations, "9999")
    assert isinstance(caught.value.__cause__, OperationalError)
    assert revision_of(database) == HEAD
    library = open_library(StorageConfig(tmp_path / "library"))
    assert len(library.lectures.list(LOCAL_OWNER, "first-model")) == 1
    library.close()


def test_a_newer_schema_is_refused_with_the_way_out(tmp_path: Path, next_migrations: Path) -> None:
    database = make_database(tmp_path / "library", RELEASED[-1] / "askaloud.db.sql")
    prepare(StorageConfig(tmp_path / "library"), next_migrations, "9999")
    before = database.read_bytes()
    with pytest.raises(SchemaTooNew, match=f"schema 9999.*update askaloud, or put a backup.*backup-{HEAD}"):
        open_library(StorageConfig(tmp_path / "library"))
    assert database.read_bytes() == before


@pytest.mark.parametrize("content", [b"this is a letter to my aunt, not a database" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    database = tmp_path / DATABASE_NAME
    database.write_bytes(content)
    with pytest.raises(DatabaseUnusable, match="backup") as caught:
        open_library(StorageConfig(tmp_path))
    assert str(database) in str(caught.value)
    assert database.read_bytes() == content


def test_a_database_put_back_in_place_of_a_damaged_one_is_used_at_once(tmp_path: Path) -> None:
    open_library(StorageConfig(tmp_path)).close()
    database = tmp_path / DATABASE_NAME
    good = database.read_bytes()
    with closing(open_library(StorageConfig(tmp_path))) as library:
        library.history.find(LOCAL_OWNER, HistoryQuery(), 1, 0)  # so a connection is open, whose cache lacks the tables asked for next
        for suffix in ("-wal", "-shm"):
            database.with_name(DATABASE_NAME + suffix).unlink(missing_ok=True)
        database.write_bytes(b"x" * len(good))
        with pytest.raises(DatabaseUnusable, match="end askaloud"):
            library.lectures.list(LOCAL_OWNER, "any")
        database.unlink()
        database.write_bytes(good)
        assert list(library.lectures.list(LOCAL_OWNER, "any")) == []


def test_a_database_damaged_in_the_middle_is_found_by_the_check(tmp_path: Path) -> None:
    database = make_database(tmp_path / "library", RELEASED[-1] / "askaloud.db.sql")
    open_library(StorageConfig(database.parent)).close()
    with closing(sqlite3.connect(database)) as connection:
        page = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'ix_citations_lecture_id'").fetchone()[0]
        page_bytes = connection.execute("PRAGMA page_size").fetchone()[0]
    with database.open("r+b") as file:
        file.seek((page - 1) * page_bytes)
        file.write(b"\xa5" * page_bytes)
    library = open_library(StorageConfig(database.parent))
    assert "backup" in library.check()[0]
    library.close()


def test_tables_of_something_else_are_left_alone(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / DATABASE_NAME)) as connection:
        connection.execute("CREATE TABLE lectures (hall TEXT)")
    with pytest.raises(DatabaseUnusable, match="a database of its own"):
        open_library(StorageConfig(tmp_path))


@pytest.mark.parametrize(
    ("url", "message"),
    [("mysql://x/y", "no database that can be used"), ("sqlite://", "in memory"), ("secret:password@nowhere", "not a URL")],
)
def test_other_databases_are_refused_and_no_password_is_shown(tmp_path: Path, url: str, message: str) -> None:
    with pytest.raises(DatabaseUnusable, match=message) as caught:
        open_library(StorageConfig(tmp_path, database_url=url))
    assert "password" not in str(caught.value)


def test_a_server_that_is_not_there_is_said_so_without_its_password(tmp_path: Path) -> None:
    pytest.importorskip("psycopg", reason="psycopg is not here (the extra `postgres`)")
    with pytest.raises(DatabaseUnusable, match="cannot be used") as caught:
        open_library(StorageConfig(tmp_path, database_url=f"postgresql://me:s3cret@/x?host={tmp_path}"))
    assert "s3cret" not in str(caught.value)


def test_processes_that_open_a_new_library_at_once_make_one_schema(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from storage.build import *; from storage.config import *;"
        f" open_library(StorageConfig(Path({str(tmp_path)!r})))"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) for _ in range(4)]
    for process in processes:
        _, complained = process.communicate(timeout=60)
        assert process.returncode == 0, complained
    assert revision_of(tmp_path / DATABASE_NAME) == HEAD


def test_opening_does_not_load_alembic_once_the_schema_is_there(tmp_path: Path) -> None:
    prepare(StorageConfig(tmp_path))
    code = (
        "import sys; from pathlib import Path; from storage.build import *; from storage.config import *;"
        f" open_library(StorageConfig(Path({str(tmp_path)!r}))); print('alembic' in sys.modules, 'psycopg' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
