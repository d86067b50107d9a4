"""Positions of several acknowledgements as one: `p`, then base64 of (log, partition, next offset) as varints."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable


def merge(positions: Iterable[str]) -> str:
    """A position that covers all of `positions`: an answer at it has all their rows."""
    farthest: dict[tuple[int, int], int] = {}
    last = ""
    for text in positions:
        last = text or last
        for log, partition, offset in _decode(text):
            farthest[log, partition] = max(offset, farthest.get((log, partition), 0))
    if not farthest:
        return last
    content = b"".join(_varint(number) for place in sorted(farthest) for number in (*place, farthest[place]))
    return "p" + base64.urlsafe_b64encode(content).rstrip(b"=").decode("ascii")


def _decode(text: str) -> list[tuple[int, int, int]]:
    if not text.startswith("p"):
        return []
    try:
        content = base64.urlsafe_b64decode(text[1:] + "=" * (-len(text[1:]) % 4))
    except (binascii.Error, ValueError):
        return []
    numbers, number, shift = [], 0, 0
    for byte in content:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            numbers.append(number)
            number, shift = 0, 0
    return list(zip(numbers[0::3], numbers[1::3], numbers[2::3], strict=False))


def _varint(number: int) -> bytes:
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
