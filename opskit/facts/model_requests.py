"""Requests to models of the last hour, as their clients log them: opskit itself, and containers."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from opskit.errors import OpskitError
from opskit.facts.survey import Survey
from opskit.logs.calls import TAGS, ModelCall, RequestCalls, number_of, text_of
from opskit.logs.files import FileSource
from opskit.logs.record import Facts, LogEntry, facts
from opskit.logs.select import EntryFilter
from opskit.records import Record, field, replace
from opskit.system.logfile import LOG_NAME
from opskit.tags import Tag

#: How far back requests count. What was wrong yesterday may be repaired.
WINDOW_S = 3600.0
_LINES = 20_000
_CONTAINER_LINES = 2000
_CONTAINER_S = 5.0
_CUT_WORDS = "truncating input prompt"
#: As Ollama's runner writes it: msg="truncating input prompt" limit=2048 prompt=5065 keep=5 new=2048
_CUT = re.compile(rf'msg="{_CUT_WORDS}" limit=(\d+) prompt=(\d+)')


class CutPrompt(Record):
    """A prompt of which the server read `limit` tokens, as its log says, or its client found."""

    source: str
    limit: int
    prompt: int


class LeftQuestion(Record):
    """A question that opskit itself left at `at`, `seconds` after it was asked."""

    node: str
    url: str
    at: float
    seconds: float


class ModelRequests(Record):
    """What the logs of one client tell: calls of models, cut prompts, and requests by their state.

    `left` are questions of probes that were left before their end.
    """

    client: str
    calls: tuple[ModelCall, ...] = ()
    cuts: tuple[CutPrompt, ...] = ()
    requests: Mapping[str, int] = field(default_factory=dict)
    left: tuple[LeftQuestion, ...] = ()


async def read_own_requests(survey: Survey) -> ModelRequests:
    return await asyncio.to_thread(_own, survey.state_folder / LOG_NAME, time.time() - WINDOW_S)


async def read_container_requests(survey: Survey, container: str) -> ModelRequests:
    """Read what a container wrote; one that cannot be read tells nothing."""
    from opskit.logs.container import containers
    from opskit.logs.source import Window

    selection = EntryFilter(tags=TAGS)
    window = Window(since=time.time() - WINDOW_S, tail=_CONTAINER_LINES)
    lines: list[Facts] = []
    cuts: list[CutPrompt] = []
    try:
        async with asyncio.timeout(_CONTAINER_S):
            for source in await containers(container, docker=await survey.docker()):
                async for batch in source.read(window):
                    for entry in batch:
                        if not isinstance(entry, LogEntry):
                            continue
                        if (cut := cut_prompt(entry)) is not None:
                            cuts.append(cut)
                        elif selection.accepts(entry):
                            lines.append(_timed(entry))
    except (OpskitError, TimeoutError):
        return ModelRequests(container)
    return ModelRequests(container, calls_of(lines), tuple(cuts))


def _own(path: Path, since: float) -> ModelRequests:
    if not path.is_file():
        return ModelRequests("opskit")
    selection = EntryFilter(tags=(*TAGS, Tag.PROBE_LEFT.value), since=since)
    lines = list(map(_timed, FileSource(path, "opskit").wanted(selection, _LINES)))
    left = tuple(question for line in lines if (question := _left(line)) is not None)
    lines = [line for line in lines if line.tag != Tag.PROBE_LEFT]
    requests: dict[str, RequestCalls] = {}
    for line in lines:
        if line.correlation_id is not None:
            requests.setdefault(line.correlation_id, RequestCalls()).take(line, line.at)
    states = Counter(str(request.settled) for request in requests.values())
    cuts = tuple(cut for line in lines if (cut := _noted_cut(line)) is not None)
    return ModelRequests("opskit", calls_of(lines), cuts, requests=states, left=left)


def cut_prompt(entry: LogEntry) -> CutPrompt | None:
    """Return what a line of Ollama's log tells of a prompt that it cut."""
    if _CUT_WORDS.encode() not in entry.raw:
        return None
    match = _CUT.search(entry.raw.decode("utf-8", "replace"))
    return None if match is None else CutPrompt(entry.source, int(match[1]), int(match[2]))


def _noted_cut(line: Facts) -> CutPrompt | None:
    """Return what opskit noted of a prompt that its server cut; the prompt has at least so many tokens."""
    read, least = (number_of(line.fields.get(name)) for name in ("prompt_tokens", "prompt_tokens_least"))
    if line.fields.get("prompt_cut") is not True or read is None or least is None:
        return None
    return CutPrompt(str(line.fields.get("node") or "opskit"), int(read), int(least))


def _left(line: Facts) -> LeftQuestion | None:
    seconds = number_of(line.fields.get("seconds"))
    if line.tag != Tag.PROBE_LEFT or line.at is None or seconds is None:
        return None
    return LeftQuestion(text_of(line.fields, "node"), text_of(line.fields, "url"), line.at, seconds)


def _timed(entry: LogEntry) -> Facts:
    line = facts(entry.raw)
    return line if line.at is not None else replace(line, at=entry.at)


def calls_of(lines: Iterable[Facts]) -> tuple[ModelCall, ...]:
    """Return each call whose beginning was seen, as the line that ended it left it. Pure."""
    requests: dict[str, RequestCalls] = {}
    calls: dict[tuple[str, int], ModelCall] = {}
    for line in lines:
        identifier = line.correlation_id or ""
        call = requests.setdefault(identifier, RequestCalls()).take(line, line.at)
        if call is not None and (call.outcome == "unfinished" or (identifier, call.number) in calls):
            calls[identifier, call.number] = call
    return tuple(calls.values())
