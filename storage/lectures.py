"""The shelf of lectures: catalogue, sound, and what models heard, in one class."""

from storage.catalogue import Catalogue
from storage.heard import Heard


class SqlLectures(Catalogue, Heard):
    """`storage.base.Lectures` over a database and a folder."""
