"""Compose files lose their secrets and nothing else."""

import string

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from opskit.diagnose.compose_text import masked
from opskit.diagnose.redaction import Redactor

FILE = """\
# the stack; PASSWORD=in-a-comment
services:
  db:
    image: postgres:15   # stays
    environment: {POSTGRES_PASSWORD: "one, two", PGDATA: /data}
    ports: ["5432:5432"]
  web:
    environment:
      - API_KEY=three four
      - MODE=fast
      - TOKEN=${TOKEN}
    command: [serve, --api-key, five, --port, "80"]
    labels:
      auth.password: |
        six
        seven
    secrets: [db_password]
secrets:
  db_password:
    content: eight
  other_secret:
    file: ./other.txt
x-url: &url postgresql://app:nine@db/x
"""


def test_values_behind_secret_names_are_masked():
    """In mappings, lists, commands, blocks, comments and addresses; what tells something stays."""
    text = masked(FILE, Redactor())
    for secret in ("one, two", "three four", "five", "six", "seven", "eight", "nine", "in-a-comment"):
        assert secret not in text, secret
    for kept in ("postgres:15   # stays", "PGDATA: /data", '"5432:5432"', "MODE=fast",
                 "TOKEN=${TOKEN}", "secrets: [db_password]", "file: ./other.txt",
                 "postgresql://app:***@db/x", "--port"):  # fmt: skip
        assert kept in text, kept


def test_what_is_left_is_the_same_file():
    """It still reads as YAML, with the same keys."""
    before, after = yaml.safe_load(FILE), yaml.safe_load(masked(FILE, Redactor()))
    assert before["services"].keys() == after["services"].keys()
    assert after["services"]["db"]["environment"]["POSTGRES_PASSWORD"] == "***"
    assert after["services"]["web"]["environment"] == ["API_KEY=***", "MODE=fast", "TOKEN=${TOKEN}"]


@pytest.mark.parametrize(
    "text",
    ["services: [", "\x00", "a: &a [*a]", "[" * 5000, "{" * 200, "", "- - -", "password: !!python/x y"],
)
def test_a_broken_file_is_masked_as_text(text: str):
    """No file is too strange, and no secret in it is shown."""
    assert "geheim-1" not in masked(f"{text}\nPASSWORD=geheim-1\n", Redactor())


#: Begins with a letter, so that it is no reference and no mask.
VALUES = st.text(string.ascii_letters + string.digits + " ,;:#'\"\\\n", min_size=6, max_size=30).map(
    "x1".__add__
)


@given(VALUES)
def test_a_secret_is_found_however_yaml_writes_it(value: str):
    """Quoted, folded or plain: what stands behind the name is replaced."""
    written = yaml.safe_dump({"services": {"a": {"environment": {"DB_PASSWORD": value, "MODE": "x"}}}})
    after = yaml.safe_load(masked(written, Redactor()))["services"]["a"]["environment"]
    assert after == {"DB_PASSWORD": "***", "MODE": "x"}
