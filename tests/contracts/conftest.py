"""Libraries over every database that is here."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.build import open_library
from storage.config import StorageConfig
from storage.library import SqlLibrary


@pytest.fixture
def library(tmp_path: Path) -> Iterator[SqlLibrary]:
    library = open_library(StorageConfig(tmp_path / "library", min_free_bytes=0))
    yield library
    library.close()
