"""The features of `shop.UserFeatures` over its orders, computed by hand, with fractions: what every way in must say."""

from __future__ import annotations

import math
from collections import defaultdict
from fractions import Fraction
from typing import Any

from thyme.times import as_micros

HOUR = 3_600_000_000
DAY = 24 * HOUR


class ByHand:
    """Orders of `shop.rows`; no two of a user at one time, none too late."""

    def __init__(self, orders: list[dict[str, Any]]) -> None:
        self.of_user: dict[str, list[tuple[int, float, str | None]]] = defaultdict(list)
        for order in orders:
            self.of_user[order["user"]].append((as_micros(order["ts"]), order["amount"], order["city"]))
        for events in self.of_user.values():
            events.sort(key=lambda event: event[0])
            assert len({time for time, _, _ in events}) == len(events)

    def features(self, user: str, at: int) -> dict[str, Any]:
        """As of `at`, in microseconds."""

        def window(length: float) -> list[tuple[int, float, str | None]]:
            return [event for event in self.of_user.get(user, []) if at - length <= event[0] <= at]

        ever, day, week = window(math.inf), window(DAY), window(7 * DAY)
        amounts = [amount for _, amount, _ in day]
        total_all, total_1d = math.fsum(amount for _, amount, _ in ever), math.fsum(amounts)
        return {
            "n_all": len(ever),
            "n_1h": len(window(HOUR)),
            "total_all": total_all,
            "total_1d": total_1d,
            "avg_1d": float(mean(amounts)) if amounts else None,
            "least_1d": min(amounts, default=None),
            "most_1d": max(amounts, default=None),
            "spread_1d": math.sqrt(float(variance(amounts))) if amounts else None,
            "rank_1d": rank_of_newest(amounts) if amounts else None,
            "last_city": week[-1][2] if week else None,
            "newest": amounts[:-4:-1],
            "cities": len({city for _, _, city in week} - {None}),
            "big_1d": sum(amount > 50 for amount in amounts),
            "share": total_1d / total_all if total_all else 0.0,
        }


def mean(values: list[float]) -> Fraction:
    return sum(map(Fraction, values), Fraction(0)) / len(values)


def variance(values: list[float]) -> Fraction:
    """Of the population."""
    return sum((Fraction(value) ** 2 for value in values), Fraction(0)) / len(values) - mean(values) ** 2


def rank_of_newest(values: list[float]) -> float:
    assert len(values) <= 64, "beyond, it is a digest"
    less = sum(value < values[-1] for value in values)
    return (less + values.count(values[-1]) / 2) / len(values)
