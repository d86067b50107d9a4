"""`thyme` commands and servers for tests, each in a process of its own that is forked from one which has imported
everything: to start Python and import costs more than what most commands do, and the tests run hundreds.

What a command is given, does and says is the same as with `python -m thyme`; `test_cli.py` and `test_docs.py` start it
like that. A command does not outlive whoever started it.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import select
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import IO, Any

MESSAGE = 1 << 20


class Command:
    """A command that runs: what `subprocess.Popen` is to one that was started."""

    def __init__(
        self, arguments: tuple[str, ...], *, cwd: Path, env: dict[str, str], stdin: IO, stdout: IO, stderr: IO
    ) -> None:
        self.arguments = arguments
        self.returncode: int | None = None
        self.told = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.told.connect(origin())
        request = json.dumps({"arguments": arguments, "cwd": str(cwd), "env": env}).encode()
        socket.send_fds(self.told, [request], [stdin.fileno(), stdout.fileno(), stderr.fileno()])
        self.pid = int(self.told.recv(MESSAGE))

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self.told], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(["thyme", *self.arguments], timeout)
            self.returncode = int(self.told.recv(MESSAGE))
            self.told.close()
        return self.returncode

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run_command(
    arguments: tuple[str, ...], *, cwd: Path, env: dict[str, str], stdin: str = "", timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Like `subprocess.run` of `python -m thyme`, with its output as text."""
    with (
        tempfile.TemporaryFile("w+") as given,
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as error,
    ):
        given.write(stdin)
        given.seek(0)
        command = Command(arguments, cwd=cwd, env=env, stdin=given, stdout=out, stderr=error)
        try:
            code = command.wait(timeout)
        finally:
            command.kill()
        out.seek(0)
        error.seek(0)
        return subprocess.CompletedProcess(["thyme", *arguments], code, out.read(), error.read())


@cache
def origin() -> str:
    """Where the process that commands are forked from is asked; it ends with this one."""
    place = Path(tempfile.mkdtemp(prefix="thyme-commands-")) / "socket"
    process = subprocess.Popen(
        [sys.executable, __file__, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    origin.process = process
    return str(place)


class Origin:
    """Forks a process for each request, and tells how it ended."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listening.bind(str(place))
        self.listening.listen(64)
        self.running: set[int] = set()
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.listening, selectors.EVENT_READ)
        self.selector.register(sys.stdin, selectors.EVENT_READ)

    def serve(self) -> dict[str, Any] | None:
        """In each forked process, what it is to do; in the one that forks, nothing, once whoever started it is gone."""
        while True:
            for key, _ in self.selector.select():
                if key.fileobj is sys.stdin:
                    self.end()
                    return None
                if key.fileobj is not self.listening:
                    self.look(key)
                elif request := self.fork():
                    return request

    def end(self) -> None:
        for pid in self.running:
            os.kill(pid, signal.SIGKILL)
        self.place.unlink()
        self.place.parent.rmdir()

    def fork(self) -> dict[str, Any] | None:
        asker, _ = self.listening.accept()
        message, files, _, _ = socket.recv_fds(asker, MESSAGE, 3)
        pid = os.fork()
        if pid == 0:
            self.close()
            asker.close()
            for number, file in enumerate(files):
                os.dup2(file, number)
                os.close(file)
            return json.loads(message)
        for file in files:
            os.close(file)
        with contextlib.suppress(BrokenPipeError):
            asker.send(str(pid).encode())
        self.running.add(pid)
        ended = os.pidfd_open(pid)
        self.selector.register(ended, selectors.EVENT_READ, (pid, ended, asker))
        self.selector.register(asker, selectors.EVENT_READ, (pid, ended, asker))
        return None

    def close(self) -> None:
        """What is open here is no matter of the forked process."""
        for key in list(self.selector.get_map().values()):
            if isinstance(key.fileobj, int):
                os.close(key.fileobj)
            elif key.fileobj is not sys.stdin:
                key.fileobj.close()
        self.selector.close()

    def look(self, key: selectors.SelectorKey) -> None:
        """The command has ended, or nobody waits for it any more."""
        pid, ended, asker = key.data
        if pid not in self.running:
            return
        if key.fileobj is asker:
            self.selector.unregister(asker)
            os.kill(pid, signal.SIGKILL)
            return
        _, status = os.waitpid(pid, 0)
        self.running.remove(pid)
        self.selector.unregister(ended)
        os.close(ended)
        with contextlib.suppress(KeyError):
            self.selector.unregister(asker)
        with contextlib.suppress(BrokenPipeError):
            asker.send(str(os.waitstatus_to_exitcode(status)).encode())
        asker.close()


def main() -> None:
    import thyme.client  # noqa: F401
    from thyme.cli import main as command

    server = Origin(Path(sys.argv[1]))
    # Who dies of a signal leaves its memory where it ran.
    resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
    gc.freeze()
    print("ready", flush=True)
    request = server.serve()
    if request is None:
        return
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.path[0] = request["cwd"]
    sys.path[1:1] = [entry for entry in request["env"].get("PYTHONPATH", "").split(os.pathsep) if entry]
    sys.argv = ["thyme", *request["arguments"]]
    command()


if __name__ == "__main__":
    main()
