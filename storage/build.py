"""Opens libraries."""

from storage.config import StorageConfig
from storage.library import SqlLibrary


def open_library(config: StorageConfig) -> SqlLibrary:
    """Open the library that the configuration names, made or upgraded if need be.

    Raises:
        SchemaTooNew: a newer version wrote it.
        DatabaseUnusable: it cannot be opened.
        DiskFull: no room to make or upgrade it.
    """
    return SqlLibrary(config)
