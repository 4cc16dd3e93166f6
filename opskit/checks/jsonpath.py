"""JSONPath (RFC 9535), by the library of that name, which is imported where a check has a path. Pure."""

import sys
from typing import TYPE_CHECKING, Any, Final

from opskit.records import Record

if TYPE_CHECKING:
    from jsonpath import JSONPath

#: There is no such value.
MISSING: Final = object()


class JsonPath(Record):
    """A compiled path: `place` leads to one place, and `whole`, where it goes on, to any number of them."""

    text: str
    whole: "JSONPath"
    place: "JSONPath"

    def value(self, document: Any) -> Any:
        """The value at a path that can mean one place only, else the list of values.

        MISSING where there is no such place, or only text or a number, which have no members to list.
        """
        if isinstance(document, str):
            # The library would read it as the text of a document.
            return MISSING if self.whole.segments else document
        place = next(iter(self.place.findall(document)), MISSING)
        if len(self.place.segments) == len(self.whole.segments):
            return place
        has_members = place is not MISSING and not isinstance(place, str | int | float)
        return self.whole.findall(document) if has_members else MISSING


def compile_path(text: str) -> JsonPath:
    """Raises ValueError for what is no path."""
    from jsonpath import JSONPath, JSONPathEnvironment, JSONPathError

    if not text.startswith("$"):
        raise ValueError("a JSONPath begins with $")
    environment = JSONPathEnvironment(strict=True)
    # What is nested deeper than that cannot be read as JSON.
    environment.max_recursion_depth = sys.getrecursionlimit()
    try:
        whole = environment.compile(text)
    except JSONPathError as exc:
        raise ValueError(f"this JSONPath cannot be read: {str(exc).partition(chr(10))[0]}") from exc
    segments = whole.segments if isinstance(whole, JSONPath) else ()
    path = place = JSONPath(env=environment, segments=segments)
    while not place.singular_query():
        place = JSONPath(env=environment, segments=place.segments[:-1])
    return JsonPath(text, path, place)
