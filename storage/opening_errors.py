"""Why a database can not be opened as it is. None carries an address with a password."""

from storage.errors import StorageError


class SchemaBehind(StorageError):
    """The database has an older schema, or none, and this daemon was told not to migrate it."""

    def __init__(self, found: str, needed: str) -> None:
        super().__init__(found, needed)
        self.found, self.needed = found, needed

    def __str__(self) -> str:
        found = f"schema {self.found!r}" if self.found else "no schema"
        return f"the database has {found}, this release needs {self.needed!r}: run `python -m daemon migrate`"


class NetworkVolume(StorageError):
    """An SQLite file would lie where locks and syncs are not what SQLite relies on."""

    def __init__(self, path: str, kind: str) -> None:
        super().__init__(path, kind)
        self.path, self.kind = path, kind

    def __str__(self) -> str:
        return (
            f"{self.path} lies on a network volume ({self.kind}), where SQLite loses data: "
            "put PLORA_DATA_DIR on a local disk or block device, or set PLORA_DATABASE_URL to a PostgreSQL"
        )
