"""When to look again: on a fixed beat that neither drifts nor catches up. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ticker:
    """Looks are due at `began`, `began + every_s`, ... on any steady clock."""

    began: float
    every_s: float

    def after(self, now: float) -> tuple[int, float]:
        """The number of the first look that is due later than `now`, and when that is.

        However late it is, what was missed is left out: a slow look or a sleep is followed by one look.
        """
        number = max(0, int((now - self.began) // self.every_s) + 1)
        # The product may round to `now` or just before it.
        while self.began + number * self.every_s <= now:
            number += 1
        return number, self.began + number * self.every_s


def jump_s(wall: tuple[float, float], steady: tuple[float, float]) -> float:
    """How far the wall clock moved beyond the steady one: a sleep of the machine, or a clock that was set."""
    return (wall[1] - wall[0]) - (steady[1] - steady[0])
