"""One database, SQLite or PostgreSQL: connections, transactions, and the translation of its errors.

SQLite runs in WAL mode. A writer says so when it begins (BEGIN IMMEDIATE) and so waits for its turn at once: a reader that turns writer
half-way would be refused, however long it waited. What is committed survives a killed process, and, where files or an index depend on it
(`durable`), a power cut. The engine belongs to one library; a forked child does not use the connections of its parent.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol, TypeAlias

from sqlalchemy import URL, Connection, Engine, create_engine, event, exc, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from storage.config import StorageConfig
from storage.errors import DatabaseUnusable, DiskFull, StorageError
from storage.tables import Base, GenerationRow

DATABASE_NAME: Final = "askaloud.db"
PAGE: Final = 500  # rows or parameters in one statement: below every database's limit

_WRITE: Final = "askaloud_write"

Values: TypeAlias = dict[str, object]


class _DriverConnection(Protocol):
    def cursor(self) -> Any: ...


class Database:
    """Short transactions over one engine; safe to share between threads."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._writer = engine.execution_options(**{_WRITE: "NORMAL"})
        self._durable = engine.execution_options(**{_WRITE: "FULL"})

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Open a transaction that reads. Raises DatabaseUnusable."""
        with self._afresh_after_damage(), Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[Session]:
        """Open a transaction that writes; it is committed at the end, or rolled back by an exception.

        Args:
            durable: it must survive a power cut, for files or an index follow what it says. If not, it survives a killed process all the
                same, is much faster, and a power cut may lose the last seconds of such transactions. PostgreSQL's are always durable.

        Raises:
            DatabaseUnusable: locked for too long, or damaged.
            DiskFull: no room for it.
        """
        with (
            self._afresh_after_damage(),
            Session(self._durable if durable else self._writer, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    @contextmanager
    def _afresh_after_damage(self) -> Iterator[None]:
        """Translate errors; let go of all connections when the database is unusable: they would not see the one put in its place."""
        try:
            with translated(self.engine.url):
                yield
        except DatabaseUnusable:
            self.engine.dispose()
            raise

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file."""
        return self.engine.dialect.name == "sqlite"

    def close(self) -> None:
        """Give back all connections."""
        self.engine.dispose()


def insert_new(session: Session, table: type[Base], rows: Sequence[Values]) -> None:
    """Insert rows; those which break a unique constraint are there already and are passed over."""
    insert, into = _insert_of(session), Base.metadata.tables[table.__tablename__]
    for first in range(0, len(rows), PAGE):
        session.execute(insert(into).on_conflict_do_nothing(), rows[first : first + PAGE])


def bump_generations(session: Session, fingerprints: set[str]) -> None:
    """Move the generations of these models on by one, in this transaction. Sorted, so that two transactions never wait for each other."""
    insert = _insert_of(session)
    for fingerprint in sorted(fingerprints):
        first = insert(GenerationRow).values(fingerprint=fingerprint, generation=1)
        again = first.on_conflict_do_update(index_elements=["fingerprint"], set_={"generation": GenerationRow.generation + 1})
        session.execute(again)


def _insert_of(session: Session) -> Callable[[Any], sqlite.Insert | postgresql.Insert]:
    return sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert


def open_engine(config: StorageConfig, *, migrating: bool = False) -> Engine:
    """Return an engine; nothing is connected yet.

    Args:
        config: which database.
        migrating: foreign keys are not enforced (SQLite changes a table by making it anew, which would delete what hangs on it), and
            connections are not kept.

    Raises:
        DatabaseUnusable: the URL is of no database that is known here.
    """
    url = database_url(config)
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url, poolclass=NullPool) if migrating else create_engine(url, pool_size=8, max_overflow=24)
        _set_up_sqlite(engine, config.busy_timeout_s, foreign_keys=not migrating)
    else:
        engine = (
            create_engine(url, poolclass=NullPool) if migrating else create_engine(url, pool_size=8, max_overflow=24, pool_pre_ping=True)
        )
        _set_up_postgresql(engine, config.busy_timeout_s)
    _leave_connections_to_their_process(engine)
    return engine


def database_url(config: StorageConfig) -> URL:
    """Return where the database is.

    Raises:
        DatabaseUnusable: not a URL, in memory, or of a database that is not known here.
    """
    if not config.database_url:
        return URL.create("sqlite", database=str(config.folder / DATABASE_NAME))
    try:
        url = make_url(config.database_url)
    except exc.ArgumentError as error:
        raise DatabaseUnusable(
            "database_url is not a URL; leave it empty for SQLite, or write postgresql://user@host/name"
        ) from error  # not shown: it may hold a password
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise DatabaseUnusable(
            f"{url.get_backend_name()!r} is no database that can be used: leave database_url empty for SQLite, or use postgresql"
        )
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise DatabaseUnusable("a database in memory would forget everything; leave database_url empty to keep it in the library's folder")
    return url


@contextmanager
def translated(url: URL) -> Iterator[None]:
    """Turn the errors of SQLAlchemy and its drivers into this package's. Raises DatabaseUnusable, DiskFull."""
    try:
        yield
    except exc.DBAPIError as error:
        if isinstance(error, exc.IntegrityError | exc.ProgrammingError | exc.DataError):
            raise  # a mistake of ours, not of the database
        raise explain(str(error.orig), url) from error
    except sqlite3.Error as error:
        raise explain(str(error), url) from error
    except exc.TimeoutError as error:
        raise DatabaseUnusable(f"{_name(url)} has all its connections in use; wait for what runs, and try again") from error


def explain(reason: str, url: URL) -> StorageError:
    """Return the error for what a database said, with the way out."""
    said = reason.lower()
    if "disk is full" in said or "no space left" in said or "disk full" in said:
        return DiskFull(f"no room to write to {_name(url)}: {reason}; free some space on that disk, nothing was half written")
    if "locked" in said or "lock timeout" in said:
        return DatabaseUnusable(f"{_name(url)} was locked by another process for too long; let that finish or stop it, and try again")
    if "not a database" in said or "malformed" in said or "corrupt" in said:
        return DatabaseUnusable(
            f"{_name(url)} is damaged or not a database ({reason}); end askaloud, then put a backup (askaloud.db.backup-…) in its"
            " place, or move it away to start anew"
        )
    return DatabaseUnusable(f"{_name(url)} cannot be used ({reason.strip()}); check that it exists and may be read and written")


def _name(url: URL) -> str:
    return str(url.database) if url.get_backend_name() == "sqlite" else url.render_as_string(hide_password=True)


def _set_up_sqlite(engine: Engine, busy_timeout_s: float, *, foreign_keys: bool) -> None:
    @event.listens_for(engine, "connect")
    def connected(connection: sqlite3.Connection, _record: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # the driver begins nothing by itself; `begun` does
        for pragma in (
            f"busy_timeout = {round(busy_timeout_s * 1000)}",
            f"foreign_keys = {'ON' if foreign_keys else 'OFF'}",
            "cache_size = -16000",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        synchronous = connection.get_execution_options().get(_WRITE)
        if synchronous:
            connection.exec_driver_sql(f"PRAGMA synchronous = {synchronous}")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if synchronous else "BEGIN")


def _set_up_postgresql(engine: Engine, busy_timeout_s: float) -> None:
    @event.listens_for(engine, "connect")
    def connected(connection: _DriverConnection, _record: ConnectionPoolEntry) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET lock_timeout = {round(busy_timeout_s * 1000)}")
        connection.commit()  # type: ignore[attr-defined]


def _leave_connections_to_their_process(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def connected(_connection: object, record: ConnectionPoolEntry) -> None:
        record.info["pid"] = os.getpid()

    @event.listens_for(engine, "checkout")
    def taken(_connection: object, record: ConnectionPoolEntry, proxy: Any) -> None:
        if record.info["pid"] != os.getpid():
            record.dbapi_connection = proxy.dbapi_connection = None  # type: ignore[misc]  # as SQLAlchemy's manual tells to do
            raise exc.DisconnectionError("this connection belongs to the parent process")
