"""`query_many`: many questions over one stream, answered in their order while more are asked.

Keys are taken as room comes: at most `AHEAD` questions are asked and not answered. A question that the server cannot
answer now is asked by itself, with the retries of any call. When the stream breaks, for whatever reason, the oldest is,
and the others are sent over a new stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import grpc
import grpc.aio

from thyme.calls import Call
from thyme.errors import ThymeError, UnavailableError
from thyme.result import ThymeResult
from thyme.transport import Transport

AHEAD = 64  # as many as the server has under way for a stream

Ask = Callable[[Any], Call]
Question = Call | ThymeError


def _question(ask: Ask, key: Any) -> Question:
    """A key that cannot be asked for is an error in its place."""
    try:
        return ask(key)
    except ThymeError as error:
        return error


class _Broken(Exception):
    """The stream ended before its answers. Why, says the answer to a call."""


class Backlog:
    """The questions that are asked and not answered, in their order. No I/O.

    `first` is the number of the oldest; `connection` is another one for each stream that they are sent over.
    """

    def __init__(self) -> None:
        self.asked: deque[Question] = deque()
        self.first = 0
        self.connection = 0
        self.has_all = False
        self.is_closed = False
        self.failure: BaseException | None = None

    def has_room(self) -> bool:
        return self.is_closed or len(self.asked) < AHEAD

    def has_next(self) -> bool:
        return self.has_all or bool(self.asked)

    def is_answer(self, response: Any) -> bool:
        """To the oldest; any other belongs to another question."""
        return response.sequence == self.first

    def end(self, failure: BaseException | None) -> None:
        """The keys came to their end, or to an error, which is told after the last answer."""
        self.has_all = True
        self.failure = None if self.is_closed else failure

    def take(self) -> None:
        """The oldest is answered."""
        if self.asked:
            self.asked.popleft()
            self.first += 1

    def close(self) -> None:
        self.connection += 1
        self.is_closed = self.has_all = True
        self.asked.clear()

    def take_failure(self) -> BaseException | None:
        failure, self.failure = self.failure, None
        return failure


class Sending:
    """What goes over one stream: the questions that are not answered when it begins, then those that come."""

    def __init__(self, backlog: Backlog) -> None:
        self._backlog = backlog
        self._connection = backlog.connection
        self._sent = backlog.first

    def _is_over(self) -> bool:
        return self._connection != self._backlog.connection

    def _waiting(self) -> int:
        # One that cannot be sent may be told before its turn to be sent comes.
        self._sent = max(self._sent, self._backlog.first)
        return self._backlog.first + len(self._backlog.asked) - self._sent

    def is_due(self) -> bool:
        return self._is_over() or self._waiting() > 0 or self._backlog.has_all

    def next(self) -> tuple[int, Question] | None:
        """Its number and the question; None at the end."""
        if self._is_over() or self._waiting() == 0:
            return None
        number = self._sent
        self._sent += 1
        return number, self._backlog.asked[number - self._backlog.first]


class Answers(Iterator[ThymeResult]):
    """Answers in the order of the keys. One that fails raises in its place; `next` goes on with the one after it.

    Use it as a context manager, or `close()` it, where it is not taken to its end.
    """

    def __init__(self, *parts: Any) -> None:
        self._stream = _Stream(*parts)

    def __next__(self) -> ThymeResult:
        return self._stream.next()

    def close(self) -> None:
        """Takes no more keys; what is not answered yet will not be."""
        self._stream.close()

    def __enter__(self) -> Answers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


class _Stream:
    """Three threads: one takes keys, one of gRPC sends questions, and whoever wants an answer receives it."""

    def __init__(
        self,
        transport: Transport,
        begin: Callable[[], tuple[Any, Ask]],
        alone: Callable[[Call], ThymeResult],
    ) -> None:
        self._transport = transport
        self._begin: Callable[[], tuple[Any, Ask]] | None = begin  # holds the keys
        self._alone = alone
        self._backlog = Backlog()
        # What ends a stream may run anywhere, where it is garbage.
        lock = threading.RLock()
        self._news = threading.Condition(lock)
        self._room = threading.Condition(lock)
        self._turn = threading.Lock()
        self._responses: Any = None

    def next(self) -> ThymeResult:
        with self._turn:
            if self._begin is not None:
                threading.Thread(target=self._feed, args=self._begin(), daemon=True).start()
                self._begin = None
            with self._news:
                self._news.wait_for(self._backlog.has_next)
                question = next(iter(self._backlog.asked), None)
            if question is None:
                failure = self._backlog.take_failure()
                self.close()
                raise failure or StopIteration
            try:
                answer = self._answer(question)
            except ThymeError:
                self._take()
                raise
            self._take()
            return answer

    def _answer(self, question: Question) -> ThymeResult:
        if isinstance(question, ThymeError):
            raise question
        try:
            return self._transport.outcome(question, self._receive())
        except (UnavailableError, _Broken):
            return self._alone(question)

    def _receive(self) -> Any:
        if self._responses is None:
            with self._news:
                requests = self._requests(Sending(self._backlog))
            self._responses = self._transport.open(requests)
        try:
            response = next(self._responses)
        except (StopIteration, grpc.RpcError):
            self._give_up()
            raise _Broken from None
        if not self._backlog.is_answer(response):
            self._give_up()
            raise _Broken
        return response

    def _take(self) -> None:
        with self._room:
            self._backlog.take()
            self._room.notify()

    def _feed(self, keys: Any, ask: Ask) -> None:
        failure: BaseException | None = None
        try:
            for key in keys:
                question = _question(ask, key)
                with self._news:
                    if not self._backlog.is_closed:
                        self._backlog.asked.append(question)
                        self._news.notify_all()
                        self._room.wait_for(self._backlog.has_room)
                    if self._backlog.is_closed:
                        return
        except BaseException as error:
            failure = error
        with self._news:
            self._backlog.end(failure)
            self._news.notify_all()

    def _requests(self, sending: Sending) -> Iterator[Any]:
        while True:
            with self._news:
                self._news.wait_for(sending.is_due)
                found = sending.next()
            if found is None:
                return
            if isinstance(found[1], Call):
                yield self._transport.streamed(*found)

    def _give_up(self) -> None:
        responses, self._responses = self._responses, None
        with self._news:
            self._backlog.connection += 1
            self._news.notify_all()
        if responses is not None:
            responses.cancel()

    def close(self) -> None:
        with self._news:
            self._backlog.close()
            self._begin = None
            self._room.notify()
        self._give_up()


class AsyncAnswers(AsyncIterator[ThymeResult]):
    """Answers in the order of the keys. One that fails raises in its place; `anext` goes on with the one after it.

    Use it with `async with`, or `aclose()` it, where it is not taken to its end.
    """

    def __init__(self, *parts: Any) -> None:
        self._stream = _AsyncStream(*parts)

    async def __anext__(self) -> ThymeResult:
        return await self._stream.next()

    async def aclose(self) -> None:
        """Takes no more keys; what is not answered yet will not be."""
        self._stream.close()

    async def __aenter__(self) -> AsyncAnswers:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop may be closed
            self._stream.close()


class _AsyncStream:
    """The same as `_Stream` with tasks for threads."""

    def __init__(
        self,
        transport: Transport,
        begin: Callable[[], Awaitable[tuple[Any, Ask]]],
        alone: Callable[[Call], Awaitable[ThymeResult]],
    ) -> None:
        self._transport = transport
        self._begin: Callable[[], Awaitable[tuple[Any, Ask]]] | None = begin
        self._alone = alone
        self._backlog = Backlog()
        self._changed = asyncio.Event()
        self._turn = asyncio.Lock()
        self._feeder: asyncio.Task[None] | None = None
        self._responses: Any = None

    async def next(self) -> ThymeResult:
        async with self._turn:
            if self._begin is not None:
                self._feeder = asyncio.create_task(self._feed(*await self._begin()))
                self._begin = None
            await self._until(self._backlog.has_next)
            question = next(iter(self._backlog.asked), None)
            if question is None:
                failure = self._backlog.take_failure()
                self.close()
                raise failure or StopAsyncIteration
            try:
                answer = await self._answer(question)
            except ThymeError:
                self._take()
                raise
            self._take()
            return answer

    async def _answer(self, question: Question) -> ThymeResult:
        if isinstance(question, ThymeError):
            raise question
        try:
            return self._transport.outcome(question, await self._receive())
        except (UnavailableError, _Broken):
            return await self._alone(question)

    async def _receive(self) -> Any:
        if self._responses is None:
            self._responses = self._transport.open(self._requests(Sending(self._backlog)))
        try:
            response = await self._responses.read()
        except grpc.RpcError:
            response = grpc.aio.EOF
        except asyncio.CancelledError:  # gRPC has cancelled the whole stream
            self._give_up()
            raise
        if response is grpc.aio.EOF or not self._backlog.is_answer(response):
            self._give_up()
            raise _Broken
        return response

    def _take(self) -> None:
        self._backlog.take()
        self._changed.set()

    async def _feed(self, keys: Any, ask: Ask) -> None:
        failure: BaseException | None = None
        try:
            async with contextlib.aclosing(_each(keys)) as each:
                async for key in each:
                    self._backlog.asked.append(_question(ask, key))
                    self._changed.set()
                    await self._until(self._backlog.has_room)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            failure = error
        self._backlog.end(failure)
        self._changed.set()

    async def _requests(self, sending: Sending) -> AsyncIterator[Any]:
        while True:
            await self._until(sending.is_due)
            found = sending.next()
            if found is None:
                return
            if isinstance(found[1], Call):
                yield self._transport.streamed(*found)

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    def _give_up(self) -> None:
        responses, self._responses = self._responses, None
        self._backlog.connection += 1
        self._changed.set()
        if responses is not None:
            responses.cancel()

    def close(self) -> None:
        self._backlog.close()
        self._begin = None
        self._give_up()
        if self._feeder is not None:
            self._feeder.cancel()
            self._feeder = None  # a task that was cancelled holds what it held, the keys


async def _each(keys: Any) -> AsyncIterator[Any]:
    if hasattr(keys, "__aiter__"):
        async for key in keys:
            yield key
    else:
        for key in keys:
            yield key
