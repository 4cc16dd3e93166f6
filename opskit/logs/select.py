"""Which entries are wanted: one condition object, and the byte pattern that finds their lines fast.

Patterns that people write are compiled by RE2, whose time is linear in the text whatever they write; what
RE2 cannot do (back references, look-around) is refused with its own words.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from itertools import pairwise
from typing import Any

from opskit.errors import UsageError
from opskit.logs.levels import COMPLAINTS, LEVELS, SIGNS, WORD_SIGNS, Level, compiled_signs
from opskit.logs.record import LogEntry, facts
from opskit.logs.tag_search import STANDARD_TAGS, is_tag, tag_pattern
from opskit.text import EARLIEST_S, LATEST_S, duration_s, epoch_s

#: The tags that are complaints by themselves.
_COMPLAINING_TAGS = rb"|\[(?:LLM_PARSE|FALLBACK|LLM_ERROR|LLM_CRASH)\]"
_UUID_BEGIN = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F-]*|[0-9a-fA-F]{1,24})")
_UNIT_WORD = re.compile(r"(?:sec(?:ond)?|min(?:ute)?|hour|day|week)s?\b")
_CLOCK = re.compile(r"\d\d?:\d\d(:\d\d)?")


#: Compiled by `re` or by RE2, which agree as far as they are used here.
Pattern = re.Pattern[bytes]


@dataclass(frozen=True)
class EntryFilter:
    """All conditions must hold. Empty ones hold always.

    `tags` may hold `*`; `level` means at least; `identifier` is a correlation id or its beginning; times are
    epoch seconds, `until` exclusive. An entry without a time of its own is given the last one before it; one
    of which no time is known is inside every window, since nobody knows that it is outside.
    """

    tags: tuple[str, ...] = ()
    grep: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    identifier: str | None = None
    level: Level | None = None
    since: float | None = None
    until: float | None = None

    @cached_property
    def finder(self) -> Pattern | None:
        """Finds every line that may be wanted, and few others; None when every line may be."""
        if self.identifier:
            return self._identified
        if self.grep:
            return self._greps[0]
        if self.tags:
            return re.compile(checked_tags(self.tags))
        is_complaint = self.level in COMPLAINTS
        return compiled_signs(SIGNS + WORD_SIGNS + _COMPLAINING_TAGS) if is_complaint else None

    def matches(self, block: bytes | bytearray, size: int) -> Iterator[re.Match[bytes]]:
        """What the finder finds in block[:size]. RE2 wants bytes of its own."""
        finder: Any = self.finder
        if finder is None:
            return iter(())
        is_ours = isinstance(finder, re.Pattern)
        text = (block, 0, size) if is_ours else (bytes(memoryview(block)[:size]),)
        lines: Iterator[re.Match[bytes]] = finder.finditer(*text)
        return lines

    @cached_property
    def is_plain(self) -> bool:
        """Whether a line that the finder finds is wanted for sure: nothing else is asked."""
        kinds = [bool(self.identifier), bool(self.grep), bool(self.tags)]
        return (
            sum(kinds) == 1
            and len(self.grep) <= 1
            and not self.exclude
            and self.level is None
            and not self.needs_time
        )

    @property
    def needs_time(self) -> bool:
        return self.since is not None or self.until is not None

    def accepts(self, entry: LogEntry) -> bool:
        """The whole condition, on a whole entry."""
        if not self._timely(entry.at):
            return False
        if self.identifier and not self._identified.search(entry.raw):
            return False
        # A person may mean the text, from its beginning on, or the name of the service in front of it.
        texts = (entry.raw,) if entry.written is None else (entry.raw, entry.shown)
        if not all(any(map(pattern.search, texts)) for pattern in self._greps):
            return False
        if any(any(map(pattern.search, texts)) for pattern in self._excludes):
            return False
        if self.tags and not self._tagged.search(entry.raw):
            return False
        return self.level is None or self._severe(facts(entry.raw).level or entry.level)

    def check(self) -> None:
        """Compile every pattern now. Raises UsageError for one that cannot be used."""
        _ = self._greps, self._excludes, self._tagged if self.tags else None

    def describe(self) -> str:
        """The conditions in words, for a search that found nothing."""
        parts = []
        if self.tags and self.tags != STANDARD_TAGS:
            parts.append(f"tag {','.join(self.tags)}")
        elif self.tags:
            parts.append("any of the standard tags")
        parts += [f"matching {pattern!r}" for pattern in self.grep]
        parts += [f"not matching {pattern!r}" for pattern in self.exclude]
        if self.identifier:
            parts.append(f"with id {self.identifier}")
        if self.level:
            parts.append(f"of level {self.level} or worse")
        return ", ".join(parts) or "any line"

    @cached_property
    def _greps(self) -> tuple[Pattern, ...]:
        return tuple(compiled(pattern) for pattern in self.grep)

    @cached_property
    def _excludes(self) -> tuple[Pattern, ...]:
        return tuple(compiled(pattern) for pattern in self.exclude)

    @cached_property
    def _identified(self) -> Pattern:
        return re.compile(identifier_pattern(self.identifier or ""), re.IGNORECASE)

    @cached_property
    def _tagged(self) -> Pattern:
        return re.compile(checked_tags(self.tags))

    def _timely(self, at: float | None) -> bool:
        if at is None:
            return True
        return (self.since is None or at >= self.since) and (self.until is None or at < self.until)

    def _severe(self, level: Level | None) -> bool:
        return self.level is None or (level is not None and LEVELS.index(level) >= LEVELS.index(self.level))


def compiled(pattern: str) -> Pattern:
    """A person's pattern, on bytes. Raises UsageError for one that RE2 cannot run."""
    import re2

    options = re2.Options()
    options.log_errors = False
    options.max_mem = 64 * 1024 * 1024
    try:
        compiled_pattern: Pattern = re2.compile(pattern.encode("utf-8", "surrogateescape"), options)
    except re2.error as exc:
        reason = exc.args[0] if exc.args else exc
        words = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise UsageError(
            f"the pattern {pattern!r} cannot be used: {words}",
            remedy="patterns are RE2: no look-around, no back references; escape special characters",
        ) from exc
    return compiled_pattern


def checked_tags(tags: tuple[str, ...]) -> bytes:
    """The pattern of the tags. Raises UsageError for what is no tag."""
    for tag in tags:
        if not is_tag(tag):
            raise UsageError(
                f"{tag!r} is no tag", remedy=f"tags are {', '.join(STANDARD_TAGS)}; `LLM_*` and `*` work too"
            )
    return tag_pattern(tags)


def identifier_pattern(text: str) -> bytes:
    """A pattern for an id or its beginning; that of a UUID may lack its dashes, as traces write it."""
    digits = text.replace("-", "")
    if not _UUID_BEGIN.fullmatch(text):
        return re.escape(text.encode())
    cuts = [0, 8, 12, 16, 20, 32]
    return "-?".join(filter(None, (digits[begin:end] for begin, end in pairwise(cuts)))).encode()


def moment(text: str, now: datetime) -> float:
    """Epoch seconds of `10m`, `2 hours ago`, `2026-11-20`, `2026-11-20T08:00`, `08:15`, `yesterday`.

    A number is taken as it is. A duration is that long before `now`, which must know its zone; so must not
    the text. A time of day is today's, or yesterday's when it is still to come. What is earlier or later than
    every log is the time of the earliest or the latest one. Raises UsageError.
    """
    return min(max(_moment(text, now), EARLIEST_S), LATEST_S)


def _moment(text: str, now: datetime) -> float:
    word = text.strip().lower().removesuffix(" ago")
    if word in ("now", "today", "yesterday"):
        today = now.replace(hour=0, minute=0, second=0, microsecond=0)
        day = today if word == "today" else (today - timedelta(hours=12)).replace(hour=0)
        return (now if word == "now" else day).timestamp()
    if word.replace(".", "", 1).isdecimal() and (at := epoch_s(float(word))) is not None:
        return at
    ago_s = duration_s(_UNIT_WORD.sub(lambda unit: unit[0][0], word))
    if ago_s is not None:
        return now.timestamp() - ago_s
    try:
        if _CLOCK.fullmatch(word):
            today = datetime.fromisoformat(f"{now:%Y-%m-%d}T{word:0>5}").replace(tzinfo=now.tzinfo)
            return today.timestamp() if today <= now else today.timestamp() - 86_400
        parsed = datetime.fromisoformat(word.upper())
    except (ValueError, OverflowError) as exc:
        raise UsageError(
            f"{text!r} is no time",
            remedy="write 10m, 2h30m, yesterday, 2026-11-20, 2026-11-20T08:00 or 08:15",
        ) from exc
    return (parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=now.tzinfo)).timestamp()
