"""What a reply says of itself."""

import pytest

from opskit.facts.endpoint import NO_JSON, Reply

JSON = {"content-type": "application/json; charset=utf-8"}


def reply(body: bytes, status: int = 200, *, json: bool = True, truncated: bool = False) -> Reply:
    headers = JSON if json else {"content-type": "text/html"}
    return Reply(
        status=status, headers=headers, body=body, truncated=truncated, first_byte_s=0.1, seconds=0.2
    )


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (reply(b'{"status": "ok"}'), ""),
        (reply(b"<html>", json=False), ""),
        (reply(b"<html>"), "it says that it is JSON, and it is not"),
        (reply(b'{"half', truncated=True), ""),
        (reply(b"no\n  disk", 500), "no disk"),
        (reply(b"", 503), "no reason given"),
        (reply(b"moved", 302, json=False), "it sends to another place: HTTP 302"),
        (reply(b"x" * 5000, 404, json=False), "x" * 200),
    ],
)
def test_a_reply_complains_in_its_own_words(answer: Reply, problem: str):
    """A status of failure with its reason; a body that is not what its head promises."""
    assert answer.problem == problem


def test_null_is_json_and_a_part_is_none():
    """What was cut off cannot be parsed, whatever it begins with."""
    assert reply(b"null").json is None
    assert reply(b"1", truncated=True).json is NO_JSON
    assert reply(b"[" * 100_000).json is NO_JSON
