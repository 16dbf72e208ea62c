"""Two models, their hooks, and llmux before them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.faults.house import House


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """Give a house in which nothing runs yet; all that is started in it ends with the test."""
    house = House(tmp_path)
    yield house
    house.close()
    assert not [event for event in house.events() if "traceback" in event]
