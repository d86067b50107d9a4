"""`PostgresSource`: a table of PostgreSQL that the server reads and then follows."""

from __future__ import annotations

from thyme.arguments import refuse_unknown
from thyme.errors import Location, ThymeDefinitionError
from thyme.location import caller_location
from thyme.secret import Secret
from thyme.suggest import suggestion

_ARGUMENTS = ("table", "schema", "host", "port", "database", "username", "password", "sslmode", "sslrootcert")
_SSL_MODES = ("disable", "prefer", "require", "verify-ca", "verify-full")


class PostgresSource:
    """A table that the server reads and then follows: every committed row is one event. The table needs a primary key,
    and a column for each field of the dataset. `@source(…, cursor="ts")` reads it in the order of a NOT NULL column,
    else of the primary key.

    What is left out comes from the server's environment, by the names that every PostgreSQL client reads (`PGHOST`,
    `PGPORT`, `PGDATABASE`, `PGUSER`, `PGPASSWORD`, `PGSSLMODE`, `PGSSLROOTCERT`); the password goes to that host only.

    Args:
        table: its name as it is stored.
        schema: where the search path does not find it.
        host, port, database, username: where and as whom.
        password: `Secret(env="NAME")`, a variable of the server; never the password itself.
        sslmode: `disable`, `prefer`, `require`, `verify-ca` or `verify-full`.
        sslrootcert: a file of the server with the certificate authorities.
    """

    kind = "postgres"

    def __init__(
        self,
        table: str,
        *,
        schema: str | None = None,
        host: str | None = None,
        port: int | None = None,
        database: str | None = None,
        username: str | None = None,
        password: Secret | None = None,
        sslmode: str | None = None,
        sslrootcert: str | None = None,
        **unknown: object,
    ) -> None:
        location = caller_location()
        refuse_unknown("PostgresSource", unknown, _ARGUMENTS, location)
        texts = {
            "table": table,
            "schema": schema,
            "host": host,
            "database": database,
            "username": username,
            "sslmode": sslmode,
            "sslrootcert": sslrootcert,
        }
        for name, text in texts.items():
            if (text is not None or name == "table") and (not isinstance(text, str) or not text):
                raise _wrong(f"PostgresSource: {name} must be a text, got {text!r}", None, name, location)
        if port is not None and (isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 65536):
            raise _wrong(f"PostgresSource: port must be from 1 to 65535, got {port!r}", None, "port", location)
        if password is not None and not isinstance(password, Secret):
            hint = 'write password=Secret(env="NAME_OF_A_VARIABLE"); a commit is kept for everybody to read'
            raise _wrong("PostgresSource: a password is not written into a definition", hint, "password", location)
        if sslmode is not None and sslmode not in _SSL_MODES:
            hint = suggestion(sslmode, _SSL_MODES)
            raise _wrong(f"PostgresSource: unknown sslmode {sslmode!r}", hint, "sslmode", location)
        given = {**texts, "port": port, "password": None if password is None else password.to_json()}
        self._settings = {name: given[name] for name in _ARGUMENTS if given[name] is not None}

    def settings(self) -> dict[str, object]:
        """The connector's own settings; of a secret the name of its variable."""
        return dict(self._settings)


def _wrong(message: str, hint: str | None, field: str, location: Location | None) -> ThymeDefinitionError:
    return ThymeDefinitionError(message, hint=hint, field=field, location=location)
