"""A real Kafka broker for tests, from `tools/kafka.sh`: killed, started and paused at will."""

from __future__ import annotations

from collections.abc import Sequence

from script import TOOLS, Script


class Broker(Script):
    def __init__(self, *properties: str, inside: Sequence[str] = ()) -> None:
        """`inside`: what a command begins with that runs in a mount namespace."""
        missing = "no Kafka broker; `make test KAFKA=off` leaves these tests out"
        super().__init__([*inside, TOOLS / "kafka.sh", "serve", "0", *properties], missing)

    def log(self, prefix: str, slices: int = 1) -> dict[str, str]:
        """The settings of a server whose log is here; one slice is what a new log has without a setting."""
        url = {"THYME_LOG__URL": f"kafka://{self.address}/{prefix}"}
        return url if slices == 1 else {**url, "THYME_LOG__SLICES": str(slices)}
