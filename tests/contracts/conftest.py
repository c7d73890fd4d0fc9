"""Libraries over every database that is here: SQLite always, PostgreSQL where its binaries are."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from storage.build import open_library
from storage.config import StorageConfig
from storage.database import DATABASE_NAME
from storage.domain import LOCAL_OWNER
from storage.library import SqlLibrary
from storage.schema import copy_database, prepare

SERVER_USER = "postgres"  # the server refuses to run as root


def postgres_binaries() -> Path | None:
    """Return the newest server's folder (Debian keeps them out of PATH), else None."""
    found = [Path(path).parent for name in ("initdb",) if (path := shutil.which(name))]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    return next((path for path in found if (path / "pg_ctl").exists() and (path / "initdb").exists()), None)


def as_server_user(command: list[str]) -> list[str]:
    """Return the command as a user that the server accepts."""
    return ["runuser", "-u", SERVER_USER, "--", *command] if os.geteuid() == 0 else command


def run(command: list[str]) -> None:
    """Run a command quietly; its output is shown if it fails."""
    done = subprocess.run(as_server_user(command), capture_output=True, text=True, check=False, timeout=60, cwd="/")
    if done.returncode:
        pytest.fail(f"{command[0]} failed: {done.stdout}{done.stderr}")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Path]:
    """A server of our own that listens on a Unix socket only; gives the socket's folder."""
    binaries = postgres_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL's initdb and pg_ctl are not here (Debian: apt-get install postgresql)")
    pytest.importorskip("psycopg", reason="psycopg is not here (the extra `postgres`)")
    if os.geteuid() == 0 and (
        shutil.which("runuser") is None or subprocess.run(["id", SERVER_USER], capture_output=True, check=False).returncode
    ):
        pytest.skip(f"PostgreSQL does not run as root, and there is no user {SERVER_USER} to run it as")
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))  # a socket's path must be short
    if os.geteuid() == 0:
        shutil.chown(folder, SERVER_USER)
    data = folder / "data"
    run([str(binaries / "initdb"), "-D", str(data), "-U", "tester", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C"])
    options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off -c max_connections=60"
    try:
        run([str(binaries / "pg_ctl"), "-D", str(data), "-w", "-l", str(folder / "log"), "-o", options, "start"])
        yield folder
    finally:
        subprocess.run(
            as_server_user([str(binaries / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop"]),
            capture_output=True,
            check=False,
            cwd="/",
        )
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_url(postgres_server: Path) -> str:
    """A database with the schema."""
    admin = create_engine(f"postgresql+psycopg://tester@/postgres?host={postgres_server}", isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text("CREATE DATABASE library"))
    admin.dispose()
    url = f"postgresql://tester@/library?host={postgres_server}"
    with tempfile.TemporaryDirectory() as folder:
        prepare(StorageConfig(Path(folder), database_url=url))
    return url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file with the schema."""
    folder = tmp_path_factory.mktemp("template")
    prepare(StorageConfig(folder))
    copy_database(folder / DATABASE_NAME, folder / "template.db")
    return folder / "template.db"


@pytest.fixture
def quick_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: these tests ask what is kept, others whether it is synced."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="library", dir=memory if os.access(memory, os.W_OK) else tmp_path) as folder:
        yield Path(folder)


@pytest.fixture
def files(quick_folder: Path) -> Path:
    """A folder for files to be added, on the library's disk."""
    folder = quick_folder / "given"
    folder.mkdir()
    return folder


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def config(request: pytest.FixtureRequest, quick_folder: Path) -> StorageConfig:
    """An empty place for a library, over each database."""
    folder = quick_folder / "library"
    if request.param == "sqlite":
        folder.mkdir()
        shutil.copy(request.getfixturevalue("sqlite_template"), folder / DATABASE_NAME)
        return StorageConfig(folder, min_free_bytes=0)
    return StorageConfig(folder, database_url=request.getfixturevalue("postgres_url"), min_free_bytes=0)


@pytest.fixture
def library(config: StorageConfig) -> Iterator[SqlLibrary]:
    """An empty library."""
    library = open_library(config)
    yield library
    library.close()
    if config.database_url:
        empty(config.database_url)


def empty(url: str) -> None:
    """Delete all rows but the first owner; all that hangs on what is deleted goes along."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        for table in ("lectures", "questions", "sounds", "courses", "workers", "index_generations"):
            connection.execute(text(f"DELETE FROM {table}"))
        connection.execute(text("DELETE FROM owners WHERE id <> :local"), {"local": LOCAL_OWNER})
