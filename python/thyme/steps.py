"""Work as steps: what is to be sent, waited for or done, without doing it. `Client` takes steps one after the other,
`AsyncClient` awaits them; what the steps are is written once, in `operations`."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from thyme.calls import Call
from thyme.channel import pauses
from thyme.errors import UnavailableError

Result = TypeVar("Result")


@dataclass(frozen=True)
class Pause:
    """Wait so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Work:
    """Call a function that blocks; its result is the answer."""

    function: Callable[[], Any]


Step = Call | Pause | Work
Steps = Generator[Step, Any, Result]


def again(step: Step, retry_for: float) -> Steps[Any]:
    """A step that is safe to repeat, repeated for `retry_for` seconds while the server cannot be reached."""
    waits = pauses(retry_for)
    while True:
        try:
            return (yield step)
        except UnavailableError as error:
            pause = next(waits, None)
            if pause is None:
                raise error from None
        yield Pause(pause)


class Walk(Generic[Result]):
    """A way through steps: `step` is the one to take now, None at the end; then `result` is what came out."""

    step: Step | None
    result: Result

    def __init__(self, steps: Steps[Result]) -> None:
        self._steps = steps
        self._move(lambda: next(steps))

    def answered(self, answer: Any) -> None:
        """The step was taken; goes to the next one."""
        self._move(lambda: self._steps.send(answer))

    def failed(self, error: Exception) -> None:
        """The step failed: whoever asked for it decides what comes next."""
        self._move(lambda: self._steps.throw(error))

    def _move(self, move: Callable[[], Step]) -> None:
        try:
            self.step = move()
        except StopIteration as end:
            self.step, self.result = None, end.value
