"""`cat LOG | opskit run "..."`: the text on standard input is the evidence, quoted without a model."""

from pathlib import Path

import pytest

from tests.parts.command import opskit

LOG = """10:00:01 INFO web started, settings are in /etc/web.conf
10:00:02 ERROR db-1: connection refused
10:00:03 INFO retry on port 5432
10:00:09 ERROR db-1: no route to host
"""


@pytest.mark.parametrize(
    ("goal", "text", "says"),
    [
        ("What is the last error?", LOG, "the text, line 4: 10:00:09 ERROR db-1: no route to host"),
        ("What went wrong here first?", LOG, "the text, line 2: 10:00:02 ERROR db-1: connection refused"),
        ("Сколько здесь ошибок?", LOG, "текст: строк «error» — 2."),
        (
            "Is anything failing?",
            "INFO ok\nWARNING probe failed: 503\n",
            "the text, line 2: WARNING probe failed",
        ),
        ("Are there any errors?", "INFO ok\nINFO done\n", "No line of the text tells of an error."),
        ("What port does it listen on?", "port: 8443\nadmin_port: 9100\n", "line 1: port: 8443"),
        ("Which node has the most memory?", '[{"node":"a","memory":4},{"node":"b","memory":9}]', "node b"),
    ],
)
def test_what_is_piped_in_answers_the_goal(goal: str, text: str, says: str, tmp_path: Path):
    """No file that it names is read, no model is asked."""
    result = opskit("run", goal, "--local", home=tmp_path / "home", stdin=text.encode())
    assert result.status == 0, result.err
    assert says in result.out
    assert "answered by opskit's tools" in result.err


def test_what_the_text_does_not_say_is_not_made_up(tmp_path: Path):
    """Without a model there is no answer, and no line that has nothing to do with the goal."""
    result = opskit("run", "Who deployed it?", "--local", home=tmp_path / "home", stdin=LOG.encode())
    assert (result.status, result.out) == (1, "")
