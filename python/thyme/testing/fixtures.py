"""The pytest plugin: `def test_stats(thyme_mock): thyme_mock.add_events(Order, [...])`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from thyme.testing.mock import MockContext


@pytest.fixture
def thyme_mock() -> Iterator[MockContext]:
    """A `MockContext` of its own per test, over what is registered when it is first used."""
    from thyme.testing.mock import MockContext

    with MockContext(lazy=True) as context:
        yield context
