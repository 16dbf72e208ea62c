"""
Amounts of resources: what a machine has, what a model takes, what is free.

A vector is a mapping from a resource's name to a number; what it does not name is 0.  The unit is
the owner's: only amounts of the same resource are ever compared.
"""

from __future__ import annotations

from collections.abc import Mapping

Amounts = Mapping[str, float]
"""By resource, how much of it."""

EPSILON = 1e-9
"""How far apart two amounts may be, relative to their size, and still be the same."""


def tolerance(*amounts: float) -> float:
    """Say how far sums of such amounts may be off by rounding."""
    return EPSILON * max(1.0, *map(abs, amounts))


def covers(room: float, amount: float) -> bool:
    """Tell whether so much of one resource is enough for an amount of it."""
    return amount <= room + tolerance(room, amount)


def fits(amounts: Amounts, room: Amounts) -> bool:
    """Tell whether there is room for all amounts; what takes nothing of a resource always fits."""
    return all(
        amount <= 0 or covers(room.get(resource, 0.0), amount)
        for resource, amount in amounts.items()
    )


def add(*vectors: Amounts) -> dict[str, float]:
    """Sum vectors up."""
    total: dict[str, float] = {}
    for vector in vectors:
        for resource, amount in vector.items():
            total[resource] = total.get(resource, 0.0) + amount
    return total


def minus(amounts: Amounts, less: Amounts) -> dict[str, float]:
    """Take one vector from another; what comes out may be less than nothing."""
    left = dict(amounts)
    for resource, amount in less.items():
        left[resource] = left.get(resource, 0.0) - amount
    return left


def highest(*vectors: Amounts) -> dict[str, float]:
    """Give the most that any of some vectors has of each resource."""
    most: dict[str, float] = {}
    for vector in vectors:
        for resource, amount in vector.items():
            most[resource] = max(most.get(resource, amount), amount)
    return most


def taken(amounts: Amounts) -> frozenset[str]:
    """Say of which resources a vector takes anything."""
    return frozenset(resource for resource, amount in amounts.items() if amount > 0)


def shown(amount: float) -> str:
    """Write an amount as people do: ``20``, ``2.5``."""
    return f"{amount:.6f}".rstrip("0").rstrip(".")
