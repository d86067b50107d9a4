"""`Secret`: a value that never travels with a commit."""

from __future__ import annotations

from thyme.errors import ThymeDefinitionError
from thyme.location import caller_location


class Secret:
    """A value that the server takes from its own environment, never from a commit: `Secret(env="DB_PASSWORD")`. A
    variable that was set for the source: the server's own passwords, such as `PGPASSWORD`, are refused."""

    def __init__(self, *, env: str) -> None:
        if not isinstance(env, str) or not env:
            raise ThymeDefinitionError(f"Secret names an environment variable, got {env!r}", location=caller_location())
        self.env = env

    def to_json(self) -> dict[str, str]:
        """The reference, not the value."""
        return {"env": self.env}

    def __repr__(self) -> str:
        return f"Secret(env={self.env!r})"
