"""A request that waits for its first token: what its server shows meanwhile, and how long that is waited for.

Silence alone does not tell a queue from a server that hangs. Who watches is given by the caller; without one
only the clock decides.

`asyncio.timeout` around every token costs more than the token. A watch keeps a single timer, and its due time
is a plain attribute; the timer looks again when it fires. It interrupts only while `wait` waits, so it may
stand around an async generator that yields between two waits.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal, Protocol, TypeVar

from opskit.config.schema import Budgets
from opskit.llm.faults import Fault, FaultKind
from opskit.llm.loads import load_budget_s
from opskit.providers.node import Node
from opskit.records import Record

T = TypeVar("T")


def _expire() -> float | None:
    return None


class WaitTimer:
    """For one task at a time. Close it when done: `with contextlib.closing(Watch()) as watch`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._due = self._fires_at = 0.0
        self._on_due: Callable[[], float | None] = _expire
        self._task: asyncio.Task[object] | None = None
        self._expired = False

    async def wait(
        self, work: Awaitable[T], seconds: float, on_due: Callable[[], float | None] = _expire
    ) -> T:
        """The result of `work`. Raises TimeoutError when it is not there in time; `work` is then cancelled.

        `on_due` is asked when the time is over: it returns for how many seconds more to wait, or None to give
        up.
        """
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a watch works inside a task")
        cancelling = task.cancelling()
        self._on_due, self._expired, self._task = on_due, False, task
        self._arm(seconds)
        try:
            return await work
        except asyncio.CancelledError:
            if self._expired and task.cancelling() <= cancelling + 1:
                raise TimeoutError from None
            raise
        finally:
            self._task = None
            if self._expired:
                # However `work` took it: the cancellation was ours, and is over.
                task.uncancel()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, seconds: float) -> None:
        self._due = self._loop.time() + seconds
        # A timer that fires too early looks again; only one that would fire too late is replaced.
        if self._timer is None or self._fires_at > self._due:
            self.close()
            self._fires_at = self._due
            self._timer = self._loop.call_at(self._due, self._fire)

    def _fire(self) -> None:
        self._timer = None
        if self._task is None:
            return
        if self._loop.time() < self._due:
            self._arm(self._due - self._loop.time())
            return
        more = self._on_due()
        if more is not None:
            self._arm(more)
            return
        self._expired = True
        self._task.cancel()


#: Most answers begin sooner: their server is not looked at.
_QUIET_S = 1.5
_AGAIN_S = 1.0
#: So often a request that still waits says why.
_NOTE_AGAIN_S = 10.0
_LONGER = "wait until it has less to do, or raise `budgets.queue_s`"


class WaitEvidence(Record):
    """What a server shows while a request waits.

    `busy` works, for this request or for others, at `rate`. `wedged` is believed once it has been so for
    `patience_s`: a server may put it right by itself, unless the request is left. `whole_node`: its other
    models would wait too.
    """

    state: Literal["busy", "loading", "wedged"]
    detail: str
    remedy: str | None = None
    rate: str = ""
    patience_s: float = 0.0
    whole_node: bool = False

    @property
    def words(self) -> str:
        return "; ".join(filter(None, (self.detail, self.rate, self.remedy)))


class WatchRequest(Protocol):
    """Begin to watch one request to a model; the result is asked again and again, None for no evidence."""

    def __call__(self, node: Node, model: str) -> Callable[[], Awaitable[WaitEvidence | None]]: ...


class Waiting:
    """One request that waits. `note` is given each news; times are of `clock`."""

    def __init__(
        self,
        look: Callable[[], Awaitable[WaitEvidence | None]] | None,
        budgets: Budgets,
        size_bytes: int | None,
        clock: Callable[[], float],
        note: Callable[[str], None],
    ) -> None:
        self._budgets = budgets
        self._load_s = load_budget_s(budgets, size_bytes)
        self._clock = clock
        self._note = note
        self._began = self._since = clock()
        self._noted_at = float("-inf")
        self._evidence: WaitEvidence | None = None
        self._task = None if look is None else asyncio.create_task(self._follow(look), name="watch a request")

    @property
    def is_held_up(self) -> bool:
        """Whether the whole server is held up, for longer than it would take to put it right."""
        evidence = self._evidence
        if evidence is None or evidence.state != "wedged" or not evidence.whole_node:
            return False
        return self._clock() >= self._since + evidence.patience_s

    def limit(self, usual: float) -> float:
        """Return until when the request is waited for; `usual` where nothing is shown."""
        evidence = self._evidence
        if evidence is None:
            # What was shown a moment ago is not over at once.
            return max(usual, self._since + usual - self._began)
        if evidence.state == "busy":
            return max(usual, self._began + self._budgets.queue_s)
        if evidence.state == "loading":
            return max(usual, self._since + self._load_s)
        return self._since + evidence.patience_s

    def fault(self) -> Fault | None:
        """Return what the wait that is over came to; None where nothing was shown."""
        evidence = self._evidence
        if evidence is None:
            return None
        seconds = f"no token in {self._clock() - self._began:.1f} s"
        if evidence.state == "busy":
            return Fault(FaultKind.BUSY, f"{seconds}: {evidence.words}", remedy=_LONGER, counts=False)
        if evidence.state == "loading":
            return Fault(FaultKind.LOAD_TIMEOUT, f"{seconds}: {evidence.words}")
        return Fault(
            FaultKind.WEDGED,
            f"{seconds}: {evidence.words}",
            remedy=evidence.remedy,
            whole_node=evidence.whole_node,
        )

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self, look: Callable[[], Awaitable[WaitEvidence | None]]) -> None:
        await asyncio.sleep(_QUIET_S)
        while True:
            self._take(await look())
            await asyncio.sleep(_AGAIN_S)

    def _take(self, evidence: WaitEvidence | None) -> None:
        before, now = self._evidence, self._clock()
        is_news = _kind(before) != _kind(evidence)
        if is_news:
            self._since = now
        self._evidence = evidence
        if evidence is not None and (is_news or now - self._noted_at >= _NOTE_AGAIN_S):
            self._noted_at = now
            self._note(f"{evidence.words} (waited {now - self._began:.0f} s)")


def _kind(evidence: WaitEvidence | None) -> tuple[object, ...]:
    """Return what makes two pieces of evidence the same: numbers in their words move."""
    return () if evidence is None else (evidence.state, evidence.remedy, evidence.patience_s)
