"""Aggregates that keep values apart: Last, First, LastK, FirstK, spread, distinct counts, decay."""

from __future__ import annotations

from thyme.aggregates import Aggregate
from thyme.duration import checked_duration
from thyme.location import caller_location


class _OneValue(Aggregate):
    def __init__(
        self, of: object, window: object = None, dropnull: object = False, where: object = None, default: object = None
    ) -> None:
        self.location = caller_location()
        super().__init__(of, window, where, default, dropnull=self._flag("dropnull", dropnull))


class Last(_OneValue):
    """The newest value by event time; nulls count unless `dropnull`. Empty window: null. Type of `of`."""

    kind, example = "last", 'Last(of="amount", window="7d")'


class First(_OneValue):
    """The oldest value by event time; nulls count unless `dropnull`. Empty window: null. Type of `of`."""

    kind, example = "first", 'First(of="amount", window="7d")'


class _SeveralValues(Aggregate):
    def __init__(
        self,
        of: object,
        window: object = None,
        k: object = 100,
        dedup: object = False,
        dropnull: object = False,
        where: object = None,
        default: object = None,
    ) -> None:
        self.location = caller_location()
        parameters = {
            "k": self._count("k", k),
            "dedup": self._flag("dedup", dedup),
            "dropnull": self._flag("dropnull", dropnull),
        }
        super().__init__(of, window, where, default, **parameters)


class LastK(_SeveralValues):
    """The newest `k` values, newest first; `dedup` keeps the newest of equal ones. Empty window: []. Type list."""

    kind, example = "last_k", 'LastK(of="amount", window="7d", k=10)'


class FirstK(_SeveralValues):
    """The oldest `k` values, oldest first; `dedup` keeps the oldest of equal ones. Empty window: []. Type list."""

    kind, example = "first_k", 'FirstK(of="amount", window="7d", k=10)'


class _Spread(Aggregate):
    def __init__(
        self, of: object, window: object = None, sample: object = False, where: object = None, default: object = None
    ) -> None:
        self.location = caller_location()
        super().__init__(of, window, where, default, sample=self._flag("sample", sample))


class Stddev(_Spread):
    """Population standard deviation; `sample=True` divides by n-1 (null below n=2). Empty window: null. Type float."""

    kind, example = "stddev", 'Stddev(of="amount", window="7d")'


class Variance(_Spread):
    """Population variance; `sample=True` divides by n-1 (null below n=2). Empty window: null. Type float."""

    kind, example = "variance", 'Variance(of="amount", window="7d")'


class CountDistinct(Aggregate):
    """Number of different non-null values; exact, or HyperLogLog with `approx=True`. Empty window: 0. Type int."""

    kind, example = "count_distinct", 'CountDistinct(of="merchant", window="7d")'

    def __init__(
        self, of: object, window: object = None, approx: object = False, where: object = None, default: object = None
    ) -> None:
        self.location = caller_location()
        super().__init__(of, window, where, default, approx=self._flag("approx", approx))


class TopK(Aggregate):
    """The `k` most frequent values as a list of {value, count}; ties by value. Empty window: []. Type
    list[TopKEntry[T]]."""

    kind, example = "top_k", 'TopK(of="merchant", window="7d", k=3)'

    def __init__(
        self, of: object, window: object = None, k: object = None, where: object = None, default: object = None
    ) -> None:
        self.location = caller_location()
        if k is None:
            raise self._refuse("k is missing", "k", f"such as {self.example}")
        super().__init__(of, window, where, default, k=self._count("k", k))


class ExpDecaySum(Aggregate):
    """Sum of v·2^-((T-t)/half_life), within 1e-12 of the sum of |v|·weight. Empty window: 0.0. Type float."""

    kind, example = "exp_decay_sum", 'ExpDecaySum(of="amount", window="7d", half_life="1d")'

    def __init__(
        self, of: object, window: object = None, half_life: object = None, where: object = None, default: object = None
    ) -> None:
        self.location = caller_location()
        if half_life is None:
            raise self._refuse("half_life is missing", "half_life", f"such as {self.example}")
        super().__init__(of, window, where, default, half_life=checked_duration(half_life, "half_life", self.location))
