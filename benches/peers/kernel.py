"""Sliding Count, Sum, Avg, Max over several windows in plain Python: what an engine calls back for each event."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from workload import LENGTHS

Values = tuple[int, int, float, int]


class Windows:
    """All events of one key, and for each window where it begins, its sum, and its candidates for the greatest.

    Windows end with the event: [t - w, t], both ends included, over the events of the key that have come so far.
    """

    __slots__ = ("cents", "starts", "sums", "tops", "times")

    def __init__(self) -> None:
        self.times: list[int] = []
        self.cents: list[int] = []
        self.starts = [0] * len(LENGTHS)
        self.sums = [0] * len(LENGTHS)
        # Times and cents of those that no later and no smaller one follows; the others are never the greatest.
        self.tops: list[tuple[list[int], list[int]]] = [([], []) for _ in LENGTHS]

    def add(self, time: int, cents: int) -> list[Values]:
        """Count, sum, average and greatest of each window that ends with this event."""
        if self.times and time < self.times[-1]:
            return self._add_late(time, cents)
        times, values, found = self.times, self.cents, []
        times.append(time)
        values.append(cents)
        for window, length in enumerate(LENGTHS):
            start, oldest = self.starts[window], time - length
            total = self.sums[window] + cents
            while times[start] < oldest:
                total -= values[start]
                start += 1
            self.starts[window], self.sums[window] = start, total
            top_times, tops = self.tops[window]
            while tops and tops[-1] <= cents:
                tops.pop()
                top_times.pop()
            top_times.append(time)
            tops.append(cents)
            while top_times[0] < oldest:
                del top_times[0], tops[0]
            count = len(times) - start
            found.append((count, total, total / count, tops[0]))
        return found

    def _add_late(self, time: int, cents: int) -> list[Values]:
        """Into its place. Its sum is that of the newest window, less what came after, and what it has left behind."""
        times, values, newest, found = self.times, self.cents, self.times[-1], []
        place = bisect_right(times, time)
        times.insert(place, time)
        values.insert(place, cents)
        after = sum(values[place + 1 :])
        for window, length in enumerate(LENGTHS):
            if time < newest - length:
                self.starts[window] += 1
            else:
                self.sums[window] += cents
                self._insert_top(window, time, cents)
            start, running = bisect_left(times, time - length), self.starts[window]
            if place < running:
                total, greatest = sum(values[start : place + 1]), max(values[start : place + 1])
            else:
                left_behind = values[start:running]
                total = self.sums[window] - after + sum(left_behind)
                top_times, tops = self.tops[window]
                # The greatest of the newest window may have come after this one: then only looking helps.
                seen = tops[0] if top_times[0] <= time else max(values[running : place + 1])
                greatest = max(seen, max(left_behind, default=seen))
            count = place + 1 - start
            found.append((count, total, total / count, greatest))
        return found

    def _insert_top(self, window: int, time: int, cents: int) -> None:
        top_times, tops = self.tops[window]
        place = bisect_right(top_times, time)
        if place < len(tops) and tops[place] >= cents:
            return
        first = place
        while first and tops[first - 1] <= cents:
            first -= 1
        top_times[first:place], tops[first:place] = [time], [cents]
