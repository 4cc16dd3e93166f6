"""When a value is too high, and when it is well again: with a margin between, so that nothing flaps. Pure."""

from dataclasses import dataclass
from typing import Literal

Change = Literal["warning", "recovered"]


@dataclass(slots=True)
class Threshold:
    """Warns when `hold` values in a row have reached `limit`; well again once one is below `limit - margin`.

    `over` tells which of the two holds now.
    """

    limit: float
    margin: float
    hold: int = 1
    over: bool = False
    _row: int = 0

    def take(self, value: float) -> Change | None:
        """The next value; what it changed."""
        if self.over:
            if value < self.limit - self.margin:
                self.over, self._row = False, 0
                return "recovered"
            return None
        self._row = self._row + 1 if value >= self.limit else 0
        if self._row < self.hold:
            return None
        self.over = True
        return "warning"
