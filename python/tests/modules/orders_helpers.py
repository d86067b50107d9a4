"""Helpers of orders.py: they travel with the commit."""

import random


def risky(orders: int, spend: float) -> bool:
    return orders > 5 and spend > 1000 + random.random()
