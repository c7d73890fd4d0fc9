"""The database's schema: made, upgraded or refused when a library is opened.

One process at a time looks after it, under a lock file. An SQLite database of an older version is copied first
(`askaloud.db.backup-<its revision>`). A migration is one transaction: killed half-way, it leaves the older schema.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout
from sqlalchemy import Connection, Engine, inspect, text

from storage.columns import note_pgvector
from storage.config import StorageConfig
from storage.database import database_url, open_engine, translated
from storage.errors import DatabaseUnusable, SchemaTooNew

HEAD: Final = "0002"  # the newest revision; a test holds it against the migrations
MIGRATIONS: Final = Path(__file__).with_name("migrations")
_ADVISORY_LOCK: Final = 0x61736B61  # any number that nobody else locks in this database


def prepare(config: StorageConfig, migrations: Path = MIGRATIONS, head: str = HEAD) -> None:
    """Bring the database to the newest schema.

    Args:
        config: which database.
        migrations: Alembic's folder.
        head: its newest revision.

    Raises:
        SchemaTooNew: a newer version wrote it.
        DatabaseUnusable: it cannot be opened, is damaged, or stays locked.
        DiskFull: no room for the backup or the new schema.
    """
    url = database_url(config)
    engine = open_engine(config, migrating=True)
    with translated(url), _locked(config):
        if engine.dialect.name == "sqlite":
            _create_file(Path(str(url.database)))
        with engine.connect() as connection:
            revision = current_revision(connection)
        if revision == head:
            return
        backup = Path(f"{url.database}.backup-{revision}") if engine.dialect.name == "sqlite" and revision else None
        _refuse_unknown(revision, migrations, url.render_as_string(hide_password=True))
        if backup is not None:
            copy_database(Path(str(url.database)), backup)
        _upgrade(engine, migrations)


def current_revision(connection: Connection) -> str | None:
    """Return the revision that the database says it has; None if it is new.

    Raises:
        DatabaseUnusable: there are tables of something else.
    """
    tables = set(inspect(connection).get_table_names())
    if "alembic_version" in tables:
        revision: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
        return revision
    if tables & {"owners", "lectures", "questions"}:
        raise DatabaseUnusable(
            f"{connection.engine.url.render_as_string(hide_password=True)} holds tables of something else;"
            " give this library a database of its own"
        )
    return None


def read_vector_type(engine: Engine) -> None:
    """Note on the engine which type its vector column has; to be called before the first statement that uses it."""
    if engine.dialect.name != "postgresql":
        return
    statement = text(
        "SELECT udt_name FROM information_schema.columns"
        " WHERE table_schema = current_schema() AND table_name = 'vectors' AND column_name = 'vector'"
    )
    with translated(engine.url), engine.connect() as connection:
        note_pgvector(engine.dialect, used=connection.execute(statement).scalar_one() == "vector")


def copy_database(source: Path, target: Path) -> None:
    """Copy an SQLite database, also while others write to it; `target` appears only when complete."""
    part = target.with_name(f"{target.name}.part")
    part.unlink(missing_ok=True)
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(part)) as new:
        old.backup(new)
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(target)


@contextmanager
def _locked(config: StorageConfig) -> Iterator[None]:
    config.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with FileLock(config.folder / "schema.lock", timeout=max(config.busy_timeout_s, 0.1) * 4, poll_interval=0.02):
            yield
    except Timeout as error:
        raise DatabaseUnusable(
            f"another process has been upgrading the database in {config.folder} for long; wait for it, or stop it"
        ) from error


def _create_file(path: Path) -> None:
    """Make an SQLite database, or see that it is one. WAL stays with the file; changed here, where nobody else has it open yet."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with closing(sqlite3.connect(path, timeout=30.0, isolation_level=None)) as connection:
        mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
        if mode != "wal":
            connection.execute("PRAGMA journal_mode = WAL")


def _refuse_unknown(revision: str | None, migrations: Path, name: str) -> None:
    from alembic.script import ScriptDirectory  # noqa: PLC0415 (slow to load, and seldom needed)

    known = {script.revision for script in ScriptDirectory(str(migrations)).walk_revisions()}
    if revision is not None and revision not in known:
        raise SchemaTooNew(
            f"{name} has schema {revision}, written by a newer version, and this version knows schemas up to {max(known)}:"
            f" update askaloud, or put a backup of that schema (askaloud.db.backup-{max(known)}) in its place"
        )


def _upgrade(engine: Engine, migrations: Path) -> None:
    from alembic import command  # noqa: PLC0415 (slow to load, and seldom needed)
    from alembic.config import Config  # noqa: PLC0415

    script = Config()
    script.set_main_option("script_location", str(migrations).replace("%", "%%"))
    with engine.execution_options(askaloud_write="FULL").begin() as connection:
        if engine.dialect.name == "postgresql":  # other machines may open the same database; the lock file is only of this one
            connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _ADVISORY_LOCK})
        script.attributes["connection"] = connection
        command.upgrade(script, "head")
        if engine.dialect.name == "sqlite" and connection.exec_driver_sql("PRAGMA foreign_key_check").first():
            raise DatabaseUnusable(f"{engine.url.database} has rows that point nowhere; put a backup in its place, and report this")
