"""Whether a target keeps breaking and getting well: the share of changes over its last 21 runs. Pure.

The rule is that of Nagios (ops facts 9): each change of state counts, a recent one up to half as much again
as an old one. A share of 30 % begins flapping, one below 20 % ends it. With runs every five minutes the
history reaches back 105 minutes.
"""

from dataclasses import dataclass

#: How many states are remembered.
STATES = 21
HIGH = 0.30
LOW = 0.20
_WELL, _BROKEN = "+", "-"
_OLDEST, _NEWEST = 0.8, 1.2


@dataclass(frozen=True, slots=True)
class History:
    """`states` has one character for each run in which the target was judged, the newest last."""

    states: str = ""
    flapping: bool = False

    @property
    def share(self) -> float:
        """The weighted share of changes, from 0 to 1. A short history holds few changes, so it is small."""
        possible = STATES - 1
        states = self.states.rjust(STATES)
        step = (_NEWEST - _OLDEST) / (possible - 1)
        changed = (
            _OLDEST + step * place
            for place in range(possible)
            if states[place] != " " and states[place] != states[place + 1]
        )
        return min(1.0, sum(changed) / possible)


def noted(history: History, *, well: bool) -> History:
    """The history after one more run. What was mended in a run was broken in it."""
    later = History((history.states + (_WELL if well else _BROKEN))[-STATES:], history.flapping)
    return History(later.states, later.share >= (LOW if history.flapping else HIGH))


def understood(states: str, *, flapping: bool) -> History:
    """From a file. Raises ValueError for what is no history."""
    if len(states) > STATES or set(states) - {_WELL, _BROKEN}:
        raise ValueError(states)
    return History(states, flapping)
