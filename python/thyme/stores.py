"""Places to write to: on disk, and in object storage by `pyarrow.fs`. What is written appears when it is whole: until
then it has a name that begins with a dot, as readers of folders pass over. An upload cannot be given up by Python, only
be completed (`NativeFile` has no `abort`), so objects are moved, too."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from thyme.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    PermissionDeniedError,
    ResourceExhaustedError,
    ThymeError,
    UnavailableError,
)

if TYPE_CHECKING:
    import pyarrow.fs as pafs

_UNFINISHED = re.compile(r"\..+\.[0-9a-f]{32}\.part")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DENIED = re.compile(r"ACCESS_DENIED|HTTP status 40[13]|PERMISSION_DENIED|Permission denied")
_LATER = re.compile(
    r"NETWORK_CONNECTION|SLOW_DOWN|SERVICE_UNAVAILABLE|INTERNAL_FAILURE|HTTP status 5\d\d|timed? ?out", re.I
)


def is_url(path: str) -> bool:
    """Whether it is no path, but says which store it is in."""
    return "://" in path


def place_of(path: str) -> Place:
    """The place of a path, or of `s3://bucket/key`, `gs://bucket/key`, `file:///path`.

    Raises:
        InvalidArgumentError: another store.
    """
    scheme, found, rest = path.partition("://")
    if not found:
        return _local(path, path)
    if scheme == "file":
        return _local(unquote(rest.removeprefix("localhost")), path)
    key = rest.strip("/")
    if scheme not in ("s3", "gs") or not key:
        raise InvalidArgumentError(
            f"not a place to write to: '{path}'", hint="give a path, s3://bucket/…, gs://bucket/… or file:///…"
        )
    import pyarrow.fs as pafs

    with _told(path):
        files = _s3(key.partition("/")[0]) if scheme == "s3" else pafs.GcsFileSystem()
    return Place(files, key, path, False, key.rpartition("/")[0])


def _local(path: str, shown: str) -> Place:
    import pyarrow.fs as pafs

    path = os.path.realpath(path)
    return Place(pafs.LocalFileSystem(), path, shown, True, os.path.dirname(path))


def _s3(bucket: str) -> pafs.S3FileSystem:
    """With the credentials of the environment, of the profile or of the machine. Which server and region it is we read
    ourselves: pyarrow does not read `AWS_ENDPOINT_URL`."""
    import pyarrow.fs as pafs

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if endpoint:
        scheme, found, host = endpoint.rstrip("/").partition("://")
        given = {"endpoint_override": host, "scheme": scheme} if found else {"endpoint_override": endpoint}
        return pafs.S3FileSystem(region=region or "us-east-1", **given)
    return pafs.S3FileSystem(region=region or pafs.resolve_s3_region(bucket))


@dataclass(frozen=True)
class Place:
    """A file or folder in a file system. `shown`: as it was given. `folder`: where it is while it is not whole."""

    files: Any
    path: str
    shown: str
    is_local: bool
    folder: str

    def child(self, name: str) -> Place:
        """What lies in this folder; the name may have folders itself. While it is not whole it is in this one: Arrow
        leaves an empty object named like the folder where it moves one away."""
        shown = f"{self.shown.rstrip('/')}/{name}"
        return Place(self.files, f"{self.path}/{name}", shown, self.is_local, self.path)

    def read(self) -> bytes | None:
        """What the file holds; None if it is not there."""
        with _told(self.shown):
            try:
                with self.files.open_input_file(self.path) as file:
                    return file.read()
            except FileNotFoundError:
                return None

    def is_file(self) -> bool:
        """Whether it is there and no folder."""
        import pyarrow.fs as pafs

        with _told(self.shown):
            return self.files.get_file_info(self.path).type == pafs.FileType.File

    def sizes(self) -> dict[str, int]:
        """The files of the folder and of those in it, each with its bytes."""
        import pyarrow.fs as pafs

        with _told(self.shown):
            found = self.files.get_file_info(pafs.FileSelector(self.path, allow_not_found=True, recursive=True))
        # By position: an object store tells paths as it is asked for them.
        return {info.path[len(self.path) + 1 :]: info.size for info in found if info.type == pafs.FileType.File}

    def put(self, data: bytes) -> None:
        """Replaces the file, whole. An object is there when its upload is completed: this one does not stop midway."""
        if self.is_local:
            with self.writing() as sink:
                sink.write(data)
            return
        with _told(self.shown), self.files.open_output_stream(self.path) as file:
            file.write(data)

    @contextlib.contextmanager
    def writing(self) -> Iterator[Unfinished]:
        """What is written in the block is there after it, unless the block fails."""
        sink = Unfinished(self)
        try:
            yield sink
            sink.finish()
        except BaseException:
            sink.discard()
            raise

    def remove(self, name: str) -> None:
        """Removes a file of the folder."""
        with _told(self.shown):
            self.files.delete_file(f"{self.path}/{name}")


def is_unfinished(name: str) -> bool:
    """Whether a file of this name was left behind by who was killed while writing."""
    return _UNFINISHED.fullmatch(name.rpartition("/")[2]) is not None


class Unfinished:
    """A file that is being written, under another name. Counts its bytes and their digest."""

    def __init__(self, place: Place) -> None:
        self.size = 0
        self.digest = hashlib.sha256()
        self.closed = False
        self._place = place
        folder, _, name = place.path.rpartition("/")
        self._path = f"{place.folder}/.{name}.{uuid.uuid4().hex}.part"
        with _told(place.shown):
            if place.is_local:
                place.files.create_dir(folder)
            self._file = place.files.open_output_stream(self._path)

    def write(self, data: Any) -> int:
        """Appends bytes; of a file that was given up it takes whatever the writer of a format does at its end."""
        length = memoryview(data).nbytes
        if self.closed:
            return length
        with _told(self._place.shown):
            self._file.write(data)
        self.digest.update(data)
        self.size += length
        return length

    def tell(self) -> int:
        """How many bytes were written."""
        return self.size

    def flush(self) -> None:
        """Nothing is read before it is whole."""

    def close(self) -> None:
        """Whoever writes a format has ended; the file is not there before `finish`."""

    def complete(self) -> None:
        """Nothing is written any more."""
        with _told(self._place.shown):
            self._file.close()

    def finish(self) -> None:
        """Gives the file its name."""
        self.complete()
        with _told(self._place.shown):
            self._place.files.move(self._path, self._place.path)
        self.closed = True

    def discard(self) -> None:
        """Leaves nothing behind, if the store can still be reached."""
        if not self.closed:
            self.closed = True
            for leave in (self._file.close, lambda: self._place.files.delete_file(self._path)):
                with contextlib.suppress(OSError):
                    leave()


@contextlib.contextmanager
def _told(shown: str) -> Iterator[None]:
    """Raises what a file system says as what it means."""
    try:
        yield
    except OSError as error:
        raise _meaning(shown, error) from None


def _meaning(shown: str, error: OSError) -> ThymeError:
    text = f"{shown}: {error.strerror or error}"
    if error.errno in _FULL:
        return ResourceExhaustedError(text, hint="make room, and run the same command again")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) or _DENIED.search(text):
        return PermissionDeniedError(text)
    if _LATER.search(text):
        return UnavailableError(text)
    return FailedPreconditionError(text)
