"""What every database must look like after all migrations."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, inspect, text

from storage.columns import uses_pgvector
from storage.config import StorageConfig
from storage.database import open_engine
from storage.library import SqlLibrary
from storage.schema import read_vector_type
from storage.tables import Base


def opened(config: StorageConfig) -> Engine:
    engine = open_engine(config, migrating=True)
    read_vector_type(engine)
    return engine


def test_the_migrations_make_what_the_tables_say(library: SqlLibrary, config: StorageConfig) -> None:
    with opened(config).connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []


def test_foreign_keys_delete_as_the_tables_say(library: SqlLibrary, config: StorageConfig) -> None:
    inspector = inspect(opened(config))
    for table in Base.metadata.sorted_tables:
        made = {
            (tuple(key["constrained_columns"]), key["referred_table"], key["options"].get("ondelete"))
            for key in inspector.get_foreign_keys(table.name)
        }
        said = {(tuple(key.column_keys), key.referred_table.name, key.ondelete) for key in table.foreign_key_constraints}
        assert made == said


def test_everything_of_an_owner_goes_with_the_owner(library: SqlLibrary, config: StorageConfig) -> None:
    owned = {
        key.parent.table.name for table in Base.metadata.sorted_tables for key in table.foreign_keys if key.column.table.name == "owners"
    }
    assert owned == {"courses", "lectures", "jobs", "questions"}
    for name in ("lectures", "jobs", "questions"):
        columns = {column.name: column for column in Base.metadata.tables[name].columns}
        assert {"owner_id", "language", "expires_at"} <= columns.keys()
        assert not columns["owner_id"].nullable


def test_the_vector_column_is_read_from_the_schema(library: SqlLibrary, config: StorageConfig) -> None:
    engine = opened(config)
    if engine.dialect.name == "sqlite":
        assert not uses_pgvector(engine.dialect)
        return
    with engine.connect() as connection:
        extension = connection.execute(text("SELECT count(*) FROM pg_extension WHERE extname = 'vector'")).scalar_one()
    assert uses_pgvector(engine.dialect) == bool(extension)
