"""Chance that comes out the same on every Python and every machine.

Only `Random.random()` is promised to give the same numbers for the same seed in every release, so everything else is built
on it here, and nothing uses the C library's `log` or `exp`, whose last digit differs between systems.
"""

from __future__ import annotations

import random
from typing import List, Sequence, TypeVar

T = TypeVar("T")


class Dice:
    def __init__(self, seed: object):
        self._next = random.Random(str(seed)).random

    def chance(self, probability: float) -> bool:
        return self._next() < probability

    def below(self, n: int) -> int:
        return int(self._next() * n)

    def between(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + self.below(high - low + 1)

    def skewed(self, low: int, high: int) -> int:
        """Like between, but small numbers are more likely."""
        roll = self._next()
        return low + int(roll * roll * roll * (high - low + 1))

    def pick(self, items: Sequence[T]) -> T:
        return items[self.below(len(items))]

    def pick_early(self, items: Sequence[T]) -> T:
        """One of the items, the first ones more often: some people write much more than others."""
        roll = self._next()
        return items[int(roll * roll * len(items))]

    def weighted(self, choices: Sequence[tuple]) -> object:
        """One value of (weight, value) pairs."""
        roll = self._next() * sum(weight for weight, _ in choices)
        for weight, value in choices:
            roll -= weight
            if roll < 0:
                return value
        return choices[-1][1]

    def sample(self, items: Sequence[T], n: int) -> List[T]:
        """Up to n different items."""
        pool = list(items)
        n = min(n, len(pool))
        for i in range(n):
            j = i + self.below(len(pool) - i)
            pool[i], pool[j] = pool[j], pool[i]
        return pool[:n]

    def hex(self, digits: int) -> str:
        return "".join("0123456789abcdef"[self.below(16)] for _ in range(digits))
