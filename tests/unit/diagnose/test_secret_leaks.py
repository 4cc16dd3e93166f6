"""No secret stays readable in any surrounding, and nothing else is masked."""

import json
import re

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from opskit.diagnose import known_secrets
from opskit.diagnose.command_secrets import in_words
from opskit.diagnose.compose_text import masked, secrets_in
from opskit.diagnose.redaction import MASK, Redactor
from opskit.diagnose.secret_names import promises_secret
from tests.parts.leaks import COMMANDS, HARMLESS, PASSWORD, PLACES, SURROUNDINGS, TOKENS, WRITTEN

_NAME_OF = [" ".join(words) for words in COMMANDS]


def hides(secret: str, text: str) -> bool:
    """Whether no considerable part of it is left."""
    return not any(secret[at : at + 8] in text for at in range(len(secret) // 2, len(secret) - 7))


@pytest.mark.parametrize("token", TOKENS.values(), ids=TOKENS)
def test_a_token_of_a_known_maker_survives_nowhere(token: str):
    """Whatever stands directly before and behind it; to redact again changes nothing."""
    texts = {name: Redactor().text(text.replace("{t}", token)) for name, text in SURROUNDINGS.items()}
    assert [name for name, text in texts.items() if not hides(token, text)] == []
    assert [name for name, text in texts.items() if Redactor().text(text) != text] == []


@pytest.mark.parametrize(
    "token",
    ["sk-abcdefghijklmnopqrst", "sk-abc-def-ghi-1-jkl", "xai-abcdefghijklmnopq", "fw_abcdefghijklmnop",
     "eyJabcdef.abcd", "r8_abcdefghijklmnopqrst"],
)  # fmt: skip
def test_a_token_that_could_be_words_is_masked_where_it_stands_apart(token: str):
    """Behind an escape or a colour it does; behind a letter it is the end of a word."""
    for before in ('"', "_", "\\n", "\\t", "\\u001b[31m", "\\x1b", "%20", "\x1b[m", "\x1b[1m", "\x1b[31m",
                   "\x1b[100m", "\x1b[K", "\x1b[1;38;5;196m"):  # fmt: skip
        assert Redactor().text(f"x{before}{token} y") == f"x{before}{MASK} y"
    assert Redactor().text(f"xde{token} y") == f"xde{token} y"


@pytest.mark.parametrize("words", COMMANDS, ids=_NAME_OF)
def test_a_password_among_arguments_is_masked(words: list[str]):
    """Of every program, however its command is written down."""
    texts = {name: Redactor().text(write(words)) for name, write in WRITTEN.items()}
    assert [name for name, text in texts.items() if PASSWORD in text] == []
    assert [name for name, text in texts.items() if Redactor().text(text) != text] == []


@pytest.mark.parametrize("words", COMMANDS, ids=_NAME_OF)
def test_a_password_among_words_of_a_container_is_masked(words: list[str]):
    """As `docker inspect` and Compose tell a command: in one list, or with the program apart."""
    redactor = Redactor()
    for tree in (
        words,
        {"Path": words[0], "Args": words[1:]},
        {"Entrypoint": words[:1], "Cmd": words[1:]},
        {"Healthcheck": {"Test": ["CMD", *words]}},
    ):
        assert PASSWORD not in json.dumps(redactor.value(tree))


@pytest.mark.parametrize("words", COMMANDS, ids=_NAME_OF)
def test_a_password_among_arguments_of_a_compose_file_is_masked(words: list[str]):
    """As a list, as one text, over several lines, behind an entrypoint; the file stays YAML."""
    line = WRITTEN["shell"](words)
    for service in (
        {"command": words},
        {"command": line},
        {"entrypoint": words[0], "command": words[1:]},
        {"entrypoint": words[:1], "command": WRITTEN["shell"](words[1:])},
        {"healthcheck": {"test": ["CMD-SHELL", line]}},
    ):
        text = masked(yaml.safe_dump({"services": {"web": service}}), Redactor())
        assert PASSWORD not in text
        assert yaml.safe_load(text)["services"]["web"].keys() == service.keys()
    folded = "command: >\n  " + "\n  ".join(WRITTEN["shell"]([word]) for word in words) + "\nnext: 1\n"
    assert PASSWORD not in masked(folded, Redactor())


@pytest.mark.parametrize("place", PLACES)
def test_a_secret_is_masked_in_its_place(place: str):
    """In headers, addresses, statements, lists, elements, blocks, pairs and hashes."""
    text = place % "Zq8xKw31vB"
    once = Redactor().text(text)
    assert "Zq8xKw31vB" not in once
    assert Redactor().text(once) == once


@pytest.mark.parametrize("text", HARMLESS)
def test_harmless_text_stays_readable(text: str):
    """Ports, users, counts, times, references, names of files and of secrets."""
    assert Redactor().text(text) == text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"passwords": ["x", "y"], "n": 1}', '{"passwords": ["***", "***"], "n": 1}'),
        ("{'credentials': {'user': 'a', 'ids': ['b']}}", "{'credentials': {'user': '***', 'ids': ['***']}}"),
        ("curl -u bob:abc http://x", "curl -u bob:*** http://x"),
        ('["mysql", "-uroot", "-pabc", "db"]', '["mysql", "-uroot", "-p***", "db"]'),
        ("sh -c \"mysql -p'a b' x\"", "sh -c \"mysql -p'***' x\""),
        ("- name: DB_PASSWORD\n  value: abc\n- name: B\n", "- name: DB_PASSWORD\n  value: ***\n- name: B\n"),
        ('{"value": "abc", "name": "API_KEY"}', '{"value": "***", "name": "API_KEY"}'),
        ("x:\n  password:\n    abc\n  port: 1", "x:\n  password:\n    ***\n  port: 1"),
        ("passwords:\n  - abc\n  - def\nport: 1", "passwords:\n  - ***\n  - ***\nport: 1"),
        ("(b'x-api-key', b'abc')", "(b'x-api-key', b'***')"),
        ("admin:$apr1$salt$abcdefghijkl", "admin:***"),
        ("sent api key: abc def", "sent api key: *** def"),
        ("DB=${DB_PASSWORD:-abc} ${API_KEY:?missing}", "DB=${DB_PASSWORD:-***} ${API_KEY:?missing}"),
        ("postgres://u:${DB_PASSWORD}@db/x", "postgres://u:${DB_PASSWORD}@db/x"),
        ("Authorization: Basic dXNlcjpwYXNz", "Authorization: ***"),
        ("sent basic dXNlcjpwYXNz to x", "sent basic *** to x"),
        ("basic training of models", "basic training of models"),
        ("redis-cli -a abcd ping | mysql -e x", "redis-cli -a *** ping | mysql -e x"),
        ("openssl rsa -passin pass:abc -passout file:/x", "openssl rsa -passin pass:*** -passout file:/x"),
    ],
)
def test_what_stands_around_a_secret_is_kept(before: str, after: str):
    """Brackets, quotes, users and options: a reader sees what was there."""
    assert Redactor().text(before) == after


def test_lines_stay_as_many_as_they_were():
    """A key over several lines is masked on each; times can be put in front of them again."""
    lines = ["a", "-----BEGIN PRIVATE KEY-----", "abc\ndef", "-----END PRIVATE KEY----- b", "", "c"]
    assert Redactor().lines(lines) == ["a", MASK, f"{MASK}\n{MASK}", f"{MASK} b", "", "c"]
    assert Redactor().lines([]) == []


@pytest.mark.parametrize("columns", [64, 70, 76])
def test_a_line_out_of_a_key_is_masked_by_its_length(columns: int):
    """As OpenSSL, OpenSSH and PGP break them; one more or less is no such line, and a digest is none."""
    line = ("aB3/" * 20)[:columns]
    assert Redactor().text(f"x\n{line}\ny") == f"x\n{MASK}\ny"
    assert line[:-1] in Redactor().text(f"x\n{line[:-1]}\ny")
    assert Redactor().text("0a" * 32) == "0a" * 32


_PIECES = [*TOKENS.values(), *HARMLESS, "\n", " ", '"', "\\", "[", "- ", "-p"]


@given(st.lists(st.sampled_from(_PIECES), max_size=8))
def test_tokens_survive_in_no_mixture(parts: list[str]):
    """Side by side with anything, quotes that do not match included; redacted twice is redacted once."""
    text = "".join(parts)
    # `node` before `sk-0123...` makes `desk-0123...`, which is a name as good as `task-0123...`.
    assume(not re.search(r"(?i)(?:ta|de|di|ma|ri|la|io|hu)sk-[0-9a-f]{16}", text))
    once = Redactor().text(text)
    assert all(hides(token, once) for token in TOKENS.values() if token in parts)
    assert Redactor().text(once) == once


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("newtool -k Zq8xKw31vB go", "newtool -k *** go"),
        ("newtool --handle=Zq8xKw31vB go", "newtool --handle=*** go"),
        ('["newtool", "-k", "Zq8xKw31vB"]', '["newtool", "-k", "***"]'),
        ("newtool -u bob:weak go", "newtool -u bob:*** go"),
        ("newtool -u 1000:1000 -v a:/b -k Backup2026", "newtool -u 1000:1000 -v a:/b -k Backup2026"),
        ("newtool --model Zq8xKw31vB", "newtool --model Zq8xKw31vB"),
        ("celery -A worker.app:celery worker", "celery -A worker.app:celery worker"),
        (f"newtool --token '{'x1' * 9000}\ny", "newtool --token '***\ny"),
    ],
)  # fmt: skip
def test_a_program_that_nobody_knows_keeps_no_secret(before: str, after: str):
    """A password behind a user, and what looks random behind an option that is not known to be harmless."""
    assert Redactor().text(before) == after


def test_a_word_that_two_rules_hide_keeps_what_stands_around_it():
    """A random password behind an option of a known program is masked once."""
    words = ["sh", "-c", "redis-cli -a Zq8xRn31 ping"]
    assert Redactor().value(words) == ["sh", "-c", f"redis-cli -a {MASK} ping"]


@given(st.lists(st.text(max_size=12) | st.sampled_from(["mysql", "-p", "-pabc", "--password", "docker"])))
def test_no_command_is_too_strange(words: list[str]):
    """What is found lies within its word."""
    for index, start, end in in_words(words):
        assert 0 <= start <= end <= len(words[index])


@pytest.mark.parametrize(
    "piece",
    ["eyJ", "-eyJ", "sk-", "password=[", '{"password":', "name: ", "value: ", "://", "a:b@", "mysql -p ",
     "--password ", '\\"', "'\"", "password:\n  ", "- ", '("a",', "<password ", "echo a | ", "\x1b[1m"],
)  # fmt: skip
def test_the_work_grows_with_the_text_alone(piece: str):
    """Repeated thirty thousand times, a text made to be slow is done; it does not hang the suite."""
    assert Redactor().text(piece * 30_000)


@pytest.mark.parametrize(
    "name",
    ["SMTP_PW", "rootpw", "requirepass", "masterauth", "OPENAI_KEY", "openai_key", "api_tokens", "apiKeys",
     "GH_PAT",
     "SENTRY_DSN", "PASSWORD_SALT", "WG_PRIVATE", "DJANGO_SESSION", "PHPSESSID", "creds",
     "WPA_PSK", "X-Signature"],
)  # fmt: skip
def test_a_part_of_a_name_promises_a_secret(name: str):
    """At its end, or written together with what stands before it."""
    assert promises_secret(name)


@pytest.mark.parametrize(
    "name",
    ["PASS", "pass", "sig", "PUBLIC_KEY", "cache_key", "MONKEY", "KEYBOARD", "TOKENS_PER_S", "prompt_tokens",
     "bypass",
     "session_id", "passenger", "token_type", "first_pass", "AUTHORS",
     "keep_alive", "password_file", "tokenizer"],
)  # fmt: skip
def test_a_part_of_a_name_promises_none(name: str):
    """Alone it may be a count, and about a secret is not the secret."""
    assert not promises_secret(name)


def test_a_place_may_make_a_secret_of_a_name():
    """`pass` is a count in one place and a password in another."""
    assert promises_secret("pass", alone=True)
    assert Redactor().value({"pass": 3, "PWD": "/home", "status": "pass"}) == {
        "pass": 3,
        "PWD": "/home",
        "status": "pass",
    }
    assert Redactor().value({"pass": "abc"}) == {"pass": MASK}


ENV = """\
export API_TOKEN="exported-1"
CREDS='{
  "client_secret": "in-json-1",
  "user": "anna"
}'
PASSPHRASE: colon-value-1
#OLD_PASSWORD=commented-1
KEPT=plain-value
DB_PASS='with # and space'
"""


def test_every_secret_of_an_environment_file_is_known():
    """With a colon, commented out, inside a value over several lines; what is plain is not."""
    known = known_secrets.of_env_file(ENV)
    assert {"exported-1", "in-json-1", "colon-value-1", "commented-1", "with # and space"} <= known
    assert not any("plain-value" in secret for secret in known)


def test_every_secret_of_a_container_is_known():
    """Of its variables, its arguments, its health check and its labels; digests in labels are none."""
    item = {
        "Path": "redis-server",
        "Args": ["--requirepass", "argument-1"],
        "Config": {
            "Env": ["API_KEY=variable-1"],
            "Entrypoint": ["mysql"],
            "Cmd": ["-uroot", "-pcommand-1"],
            "Healthcheck": {"Test": ["CMD-SHELL", "redis-cli -a checked-1 ping"]},
            "Labels": {"app.password": "labelled-1", "config-hash": "0a1b2c3d4e5f" * 4},
        },
    }
    assert known_secrets.of_container(item) == {
        "variable-1",
        "argument-1",
        "command-1",
        "checked-1",
        "labelled-1",
    }


def test_every_secret_of_a_compose_file_is_known():
    """By anchors, in folded commands and in lists, so that they are masked in logs too."""
    text = (
        "x-env: &env {DB_PASSWORD: anchored-1}\nservices:\n  db:\n    environment: *env\n"
        "    command: >\n      mysqld\n      --password\n      folded-1\n"
        "  web:\n    command: [a, --token, listed-1]\n"
        "    environment:\n      - name: API_KEY\n        value: paired-1\n"
    )
    assert {"anchored-1", "folded-1", "listed-1", "paired-1"} <= secrets_in(text)
    assert secrets_in("a: [") == set()


@pytest.mark.parametrize(
    ("secret", "form"),
    [
        ("pa$word-1", "pa$$word-1"),
        ("pa'word-1", "pa''word-1"),
        ("pa'word-1", "pa'\\''word-1"),
        ("pa&word-1", "pa&amp;word-1"),
        ("pa word-1", "pa+word-1"),
        ("pa/word-1", "pa%2fword-1"),
    ],
)
def test_a_known_secret_is_seen_through_quoting(secret: str, form: str):
    """As Compose, YAML, a shell, HTML and a URL write it."""
    assert Redactor([secret]).text(f"x {form} y") == f"x {MASK} y"
