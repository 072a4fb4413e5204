"""Every error that leaves this package. None carries content, an external id or a key: only ids, counts and paths."""


class StorageError(Exception):
    """The root: something could not be stored or read as asked."""


class BadRecord(StorageError, ValueError):
    """A value handed in can not be a record; nothing was written."""

    def __init__(self, field: str, needed: str) -> None:
        super().__init__(field, needed)
        self.field, self.needed = field, needed

    def __str__(self) -> str:
        return f"{self.field} must be {self.needed}"


class UnsupportedDatabase(StorageError):
    """The address names a database that this version can not open."""

    def __init__(self, dialect: str) -> None:
        super().__init__(dialect)
        self.dialect = dialect

    def __str__(self) -> str:
        return (
            f"the database {self.dialect!r} is not supported: use sqlite:////absolute/path/to/file.db, or postgresql://"
        )


class SchemaTooNew(StorageError):
    """A later release has migrated this database."""

    def __init__(self, found: str, newest_known: str) -> None:
        super().__init__(found, newest_known)
        self.found, self.newest_known = found, newest_known

    def __str__(self) -> str:
        return (
            f"the database has schema {self.found!r}, this release knows up to {self.newest_known!r}: "
            "start the newer release, or restore the backup made before the upgrade"
        )


class StoreInUse(StorageError):
    """Another process, or another Store in this one, has the database open."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"{self.path} is locked by a running daemon: stop it, or send the command to it over HTTP"


class WrongPragma(StorageError):
    """The database does not have a setting on which durability or forgetting depends."""

    def __init__(self, pragma: str, needed: str, found: str) -> None:
        super().__init__(pragma, needed, found)
        self.pragma, self.needed, self.found = pragma, needed, found

    def __str__(self) -> str:
        return (
            f"the database has {self.pragma}={self.found}, needed {self.needed}: "
            "set it on a PostgreSQL server; keep an SQLite file on a local disk, with a build that has it"
        )


class DiskFailed(StorageError):
    """The operating system could not read or write a file; the transaction left nothing."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path, self.problem = path, problem

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}; nothing was written: check the disk, then restart"


class DiskFull(DiskFailed):
    """No room, or a quota is reached; the transaction left nothing. Reading goes on."""

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}; nothing was written: free some space and send it again"


class BlobTaken(StorageError):
    """Other content stands under this name already; it was left as it is."""

    def __init__(self, place: str, name: str) -> None:
        super().__init__(place, name)
        self.place, self.name = place, name

    def __str__(self) -> str:
        return f"{self.place} already has another {self.name}: nothing is ever replaced, choose another name"


class BackupRefused(StorageError):
    """A backup can not be made or put back as asked; what was there is as it was."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path, self.problem = path, problem

    def __str__(self) -> str:
        return f"nothing was changed: {self.path}: {self.problem}"


class ExportsForeign(StorageError):
    """An exported statement was not signed by this key ring, or was altered."""

    def __init__(self, place: str, name: str) -> None:
        super().__init__(place, name)
        self.place, self.name = place, name

    def __str__(self) -> str:
        return (
            f"{self.place} has {self.name}, which this key ring has not signed: put back the ring's signing.key, "
            "or, for a new installation, choose an empty place for exports"
        )


class BlobsAway(StorageError):
    """The bucket did not answer, or was too busy for as long as we waited; whether it took the blob is not known."""

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(place, problem)
        self.place, self.problem = place, problem

    def __str__(self) -> str:
        return f"{self.place} does not answer ({self.problem}): check the network, then send it again"


class BlobsRefused(StorageError):
    """The bucket answered that it will not: no such bucket, no right to do this. Asking again would not help."""

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(place, problem)
        self.place, self.problem = place, problem

    def __str__(self) -> str:
        return f"{self.place} refuses ({self.problem}): check the bucket, its policy and the credentials"


class StoreBusy(StorageError):
    """Somebody else held the database locked for longer than the busy timeout."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"{self.path} stayed locked: close other programs that have it open, then try again"


class StoreAway(StorageError):
    """The database server does not answer, or ended the connection; nothing was written."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"{self.name} does not answer; nothing was written: see that it runs, then try again"


class CommitUnknown(StorageError):
    """The connection broke during COMMIT and the server stayed away: what was to be written may be there or not."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"{self.name} went away during a commit: send the same again, what is stored already is not stored twice"


class RoleBypassesIsolation(StorageError):
    """Row-level security does not bind superusers and roles with BYPASSRLS."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"the role for {self.name} bypasses row-level security: use one with NOSUPERUSER NOBYPASSRLS"


class StoreDamaged(StorageError):
    """The file is not a database, or its pages do not add up."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path, self.problem = path, problem

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}: restore it from a backup"


class UnknownTenant(StorageError):
    def __init__(self, tenant: str) -> None:
        super().__init__(tenant)
        self.tenant = tenant

    def __str__(self) -> str:
        return f"there is no tenant {self.tenant}: create it with ensure_tenant first"


class UnknownUser(StorageError):
    """No active user has this internal id."""

    def __init__(self, user: str) -> None:
        super().__init__(user)
        self.user = user

    def __str__(self) -> str:
        return f"there is no active user {self.user}: never seen, or forgotten"


class UserForgotten(StorageError):
    """The user was forgotten; only a consent given after that lets them in again. Also an outcome of record_events."""

    def __init__(self, user: str) -> None:
        super().__init__(user)
        self.user = user

    def __str__(self) -> str:
        return f"user {self.user} was forgotten: a consent event with a time after the forgetting is needed first"


class EventIdReused(StorageError):
    """(source, id) came before with other content. Also an outcome of record_events."""

    def __init__(self, seq: int) -> None:
        super().__init__(seq)
        self.seq = seq

    def __str__(self) -> str:
        return f"this source and id already name event {self.seq}, whose content differs: send a new id"


class StaleEpoch(StorageError):
    """The claim was lost (expired and taken, settled, cancelled, or the user was forgotten); nothing was written."""

    def __init__(self, what: str, number: int, epoch: int) -> None:
        super().__init__(what, number, epoch)
        self.what, self.number, self.epoch = what, number, epoch

    def __str__(self) -> str:
        return f"{self.what} {self.number} is no longer held under epoch {self.epoch}: drop the result"


class UnknownVersion(StorageError):
    """The user has no such version, or never had it as the current one, so it can not be served."""

    def __init__(self, user: str, version: int) -> None:
        super().__init__(user, version)
        self.user, self.version = user, version

    def __str__(self) -> str:
        return f"user {self.user} has no retired version {self.version}: list the versions and name a retired one"


class CurrentVersionKept(StorageError):
    """A version that is being served can not be deleted."""

    def __init__(self, user: str, version: int) -> None:
        super().__init__(user, version)
        self.user, self.version = user, version

    def __str__(self) -> str:
        return f"version {self.version} of user {self.user} is current: roll back or forget the user first"


class UnknownBasis(StorageError):
    def __init__(self, basis: str) -> None:
        super().__init__(basis)
        self.basis = basis

    def __str__(self) -> str:
        return f"this tenant has no ready basis {self.basis!r}: train one first"


class Unreadable(StorageError):
    """Sealed bytes do not open in this place. Which check failed is deliberately not said."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    def __str__(self) -> str:
        return f"{self.what} can not be read: altered, moved, or sealed under another key; restore it or make it anew"
