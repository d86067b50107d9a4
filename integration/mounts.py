"""Small and read-only file systems for a test, and servers on them."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from typing import IO

import pytest

from harness import Server

#: Bytes that a full disk still takes.
LEFT = 64 * 1024


class Mounts:
    """A mount namespace, so that a test may mount what it wants: as root, or as anybody where the system lets
    users have namespaces (many containers do not). Commands run `inside`; from outside its files are seen under
    `root`."""

    def __init__(self) -> None:
        self.as_user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        command = ["unshare", *self.as_user, "--mount", "sh", "-c", "echo ready; exec sleep 3600"]
        self.holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        if self.holder.stdout.readline() != "ready\n":
            self.holder.wait()
            pytest.skip("this system refuses mount namespaces: no small or read-only file system to test on")

    @property
    def root(self) -> str:
        return f"/proc/{self.holder.pid}/root"

    def inside(self, *command: str) -> list[str]:
        users = ["--user", "--preserve-credentials"] if self.as_user else []
        return [
            *("nsenter", "--target", str(self.holder.pid), *users, "--mount", "--root", f"--wd={os.getcwd()}"),
            *command,
        ]

    def run(self, *command: str) -> None:
        subprocess.run(self.inside(*command), check=True)

    def disk(self, folder: Path, megabytes: int) -> Disk:
        """A small disk in the place of a folder, which is made."""
        folder.mkdir()
        self.run("mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=777", "tmpfs", str(folder))
        return Disk(Path(self.root + str(folder)))

    def close(self) -> None:
        self.holder.kill()
        self.holder.wait()


class Disk:
    """A small file system, `seen` from outside the namespace."""

    def __init__(self, seen: Path) -> None:
        self.seen = seen

    @property
    def free_bytes(self) -> int:
        found = os.statvfs(self.seen)
        return found.f_bavail * found.f_frsize

    def fill(self, left: int = LEFT) -> None:
        # Whoever writes at the same time may have taken the rest.
        with open(self.seen / "filler", "ab", buffering=0) as filler, contextlib.suppress(OSError):
            filler.write(b"x" * max(0, self.free_bytes - left))

    def free(self) -> None:
        os.remove(self.seen / "filler")


class ServerInside(Server):
    """A server that sees the mounts of a namespace."""

    mounts: Mounts
    #: Where it says what it does, if it is not beside its data.
    log_name: Path | None = None

    @property
    def log_file(self) -> Path:
        return self.log_name or super().log_file

    def command(self, *arguments: str) -> list[str]:
        enter = self.mounts.inside()
        enter[-1] = f"--wd={self.directory}"
        return [*enter, *super().command(*arguments)]

    def begin(self, arguments: tuple[str, ...], **files: IO) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self.command(*arguments), cwd=self.directory, env=self.env, **files)
