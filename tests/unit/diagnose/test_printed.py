"""What real programs print: Compose, `.env`, shells, logs, URLs, headers, `docker inspect`, process lists."""

from pathlib import Path

import pytest

import tests.parts
from opskit.diagnose.compose_text import masked, secrets_in
from opskit.diagnose.redaction import MASK, Redactor

_PARTS = Path(tests.parts.__file__).parent


def printed(name: str) -> list[str]:
    """Return the texts of a file, one a line; `⏎` is a line break in a text."""
    lines = (_PARTS / f"{name}.txt").read_text("utf-8").splitlines()
    return [line.replace("⏎", "\n") for line in lines]


@pytest.mark.parametrize("secret", ["Zq8xKw31vB", "correct-horse-9", "Aa1.bB2_cC3~dD4"])
def test_no_printed_secret_stays_readable(secret: str):
    """`<S>` is the secret, which nobody told the redactor; to redact again changes nothing."""
    texts = [text.replace("%%", "%").replace("<S>", secret) for text in printed("printed_secrets")]
    masked = {text: Redactor().text(text) for text in texts}
    assert [text for text, once in masked.items() if secret in once] == []
    assert [once for once in masked.values() if Redactor().text(once) != once] == []


def test_printed_text_without_a_secret_stays_as_it_is():
    """Tables, logs of model servers, errors about a password that is missing, names of files and of keys."""
    changed = {text: Redactor().text(text) for text in printed("printed_harmless")}
    assert [(text, once) for text, once in changed.items() if text != once] == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("BOS token = 1 '<s>'", "BOS token = 1 '<s>'"),
        ("the bot token = 123456 works", f"the bot token = {MASK} works"),
        ("Root Token: hvz.12345678", f"Root Token: {MASK}"),
        ("setx API_KEY abc9def /M", f"setx API_KEY {MASK} /M"),
        ("<key>TOKEN</key>\n  <string>abc</string>", f"<key>TOKEN</key>\n  <string>{MASK}</string>"),
        ("db:5432:tasks:app:abc9def", f"db:5432:tasks:app:{MASK}"),
        ("user default on >abc9def ~* +@all", f"user default on >{MASK} ~* +@all"),
        ("api_keys:\n  openai: abc\nport: 1", f"api_keys:\n  openai: {MASK}\nport: 1"),
        ("Your password is: abc9def", f"Your password is: {MASK}"),
    ],
)
def test_a_printed_secret_keeps_what_stands_around_it(before: str, after: str):
    """The reader sees which variable, which host, which user."""
    assert Redactor().text(before) == after


@pytest.mark.parametrize(
    "service",
    [
        {"entrypoint": "mysql", "command": "-uroot -pabc9def db"},
        {"entrypoint": ["redis-cli", "-h", "cache"], "command": "-a 'abc9 def' ping"},
    ],
)
def test_a_command_in_one_text_behind_its_entrypoint_loses_its_password(service: dict[str, object]):
    """In JSON as in a Compose file."""
    shown = Redactor().value(service)
    assert "abc9" not in str(shown)
    assert shown["entrypoint"] == service["entrypoint"]


def test_a_secret_that_another_key_anchors_is_masked():
    """The name that promises it stands at the alias."""
    text = "x-shared: &shared abc9def\nservices:\n  db:\n    environment:\n      DB_PASSWORD: *shared\n"
    assert "abc9def" not in masked(text, Redactor())
    assert secrets_in(text) == {"abc9def"}
