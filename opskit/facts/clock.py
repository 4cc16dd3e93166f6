"""The clocks of servers, compared with that of this machine."""

import asyncio
import time
from email.utils import parsedate_to_datetime

from opskit.facts.survey import Survey
from opskit.providers.base import CallError
from opskit.records import Record

_ANSWER_S = 2.0
#: An HTTP date has whole seconds: on average half a second has passed since.
_HALF_S = 0.5


class ClockReading(Record):
    """How far the clock of `name` is ahead of ours."""

    name: str
    url: str
    ahead_s: float


async def read_clock(survey: Survey, name: str, url: str) -> ClockReading | None:
    """Read the date of an HTTP answer; None where nothing answers with one."""
    from opskit.providers.failures import translated

    client = survey.client(secure=url.startswith("https:"))
    began = time.time()
    try:
        async with asyncio.timeout(_ANSWER_S):
            with translated("request"):
                async with client.stream("GET", url) as response:
                    date = response.headers.get("date", "")
        theirs = parsedate_to_datetime(date).timestamp()
    except (CallError, TimeoutError, ValueError, TypeError):
        return None
    return ClockReading(name, url, theirs + _HALF_S - (began + time.time()) / 2)
