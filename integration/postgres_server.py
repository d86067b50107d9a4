"""A real PostgreSQL server for tests, from `tools/postgres.sh`: killed, started, paused; `sql` is the superuser's."""

from __future__ import annotations

from script import TOOLS, Script


class Postgres(Script):
    def __init__(self) -> None:
        super().__init__([TOOLS / "postgres.sh", "serve"], "no PostgreSQL")
        self.port = int(self.address.rpartition(":")[2])
        self.databases = 0

    def fresh(self) -> str:
        """The URL of a new database."""
        self.databases += 1
        name = f"fresh_{self.databases}"
        self.tell(f"sql CREATE DATABASE {name}")
        return self.url(name)

    def url(self, database: str = "thyme", user: str = "postgres:secret") -> str:
        return f"postgres://{user}@{self.address}/{database}"
