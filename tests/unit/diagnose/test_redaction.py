"""Secrets do not survive redaction; what helps to understand a fault does."""

import base64
import json
import string
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from opskit.config.schema import AgentConfig, Config, NodeConfig, NoticeConfig, Secret
from opskit.diagnose import known_secrets
from opskit.diagnose.redaction import MASK, Redactor
from opskit.diagnose.secret_names import promises_secret
from opskit.diagnose.secret_shapes import harmless

#: Nothing that a person can type into a password is left out, but line ends.
PASSWORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters="*"),
    min_size=6,
    max_size=40,
)
WORDS = st.text(string.ascii_letters + string.digits + "._~+-", min_size=8, max_size=40)
TEXTS = st.text(max_size=60)
NAMES = st.sampled_from(
    ["password", "DB_PASSWORD", "PGPASSWORD", "apiKey", "api_key", "X-Api-Key", "client_secret",
     "GITHUB_TOKEN", "authToken", "HF_KEY", "MYSQL_PWD", "REDIS_AUTH", "AWS_SECRET_ACCESS_KEY", "cookie",
     "private_key", "webhook_url"]
)  # fmt: skip


def usable(secret: str) -> bool:
    """A secret, not a placeholder that is shown on purpose."""
    return not harmless(secret) and bool(Redactor([secret])._forms)


@given(PASSWORDS, TEXTS, TEXTS)
def test_a_known_secret_never_survives(secret: str, before: str, after: str):
    """Whatever stands around it."""
    assume(usable(secret))
    assert secret not in Redactor([secret]).text(f"{before}{secret}{after}")


@given(PASSWORDS, PASSWORDS, TEXTS)
def test_secrets_that_overlap_leave_no_half_behind(first: str, second: str, between: str):
    """Both are masked as one place, so that the end of the second does not stay."""
    assume(usable(first) and usable(second) and usable(first + second))
    text = f"<{between}>{first}{second}<"
    masked = Redactor([first + second[:3], second]).text(text)
    assert not masked.endswith(f"{second[3:]}<")


@given(PASSWORDS, TEXTS)
def test_a_known_secret_is_seen_through_its_encodings(secret: str, context: str):
    """In JSON, in JSON inside JSON, in a URL, and in base64 at any offset."""
    assume(usable(secret))
    redactor = Redactor([secret])
    inner = json.dumps({"said": f"{context}{secret}"})
    for text in (
        inner,
        json.dumps(inner),
        json.dumps({"said": secret}, ensure_ascii=False),
        f"/?q={quote(secret, safe='')}",
    ):
        masked = redactor.text(text)
        for form in (secret, json.dumps(secret)[1:-1], quote(secret, safe="")):
            assert form not in masked


@given(
    st.text(string.ascii_letters + string.digits, min_size=16, max_size=40),
    st.binary(max_size=7),
    st.binary(max_size=7),
)
def test_a_known_secret_is_seen_in_base64(secret: str, before: bytes, after: bytes):
    """Whatever was encoded together with it; no more is left than belongs to its neighbours."""
    encoded = base64.b64encode(before + secret.encode() + after).decode()
    left = Redactor([secret]).text(f"<{encoded}>").replace(MASK, "").strip("<>=")
    assert len(left) <= (len(before) + len(after)) * 4 / 3 + 4


@given(NAMES, WORDS, TEXTS)
@pytest.mark.parametrize(
    "template",
    [
        "{name}={secret}",
        "export {name}={secret}",
        "{name}: {secret}",
        '{name} = "{secret}"',
        "{name}: '{secret}'",
        '{{"{name}": "{secret}"}}',
        '"{{\\"{name}\\": \\"{secret}\\"}}"',
        "run --{name}={secret} now",
        "run --{name} {secret} now",
        "GET /run?a=1&{name}={secret}&b=2 HTTP/1.1",
        "{{'{name}': '{secret}'}}",
        "{name}=>{secret}",
        "{name}: |\n    {secret}\n    {secret}\nnext: 1",
        "Authorization: Bearer {secret}",
        "Authorization: {secret}",
        "sent header bearer {secret}",
        'curl -H "Authorization: Token {secret}" http://x',
        "Cookie: session={secret}; theme=dark",
        "set-cookie: sid={secret}; Path=/; HttpOnly",
        "postgresql://app:{secret}@db:5432/tasks",
        "https://{secret}@github.com/a/b.git",
        "redis://:{secret}@cache/0",
    ],
)
def test_a_secret_is_known_by_what_stands_around_it(template: str, name: str, secret: str, before: str):
    """Nobody told the redactor this secret."""
    assume(not harmless(secret) and secret.strip() == secret and secret.lower() not in _SCHEME_WORDS)
    # A word of its own that begins with a dash is the next option, for the program that gets it too.
    assume(not (secret.startswith("-") and "--{name} {secret}" in template))
    text = template.format(name=name, secret=secret)
    assume(secret not in text.replace(secret, "") and secret not in template and secret not in name)
    masked = Redactor().text(f"{before}\n{text}")
    assert secret not in masked.removeprefix(before)


_SCHEME_WORDS = ("bearer", "basic", "token", "digest", "apikey", "key")


@given(PASSWORDS)
def test_an_environment_line_is_masked_to_its_end(secret: str):
    """Commas, quotes, brackets and hashes belong to the value."""
    assume(not harmless(secret) and secret[0] not in "\"'`\\|>")
    assert Redactor().text(f"PASSWORD={secret}\nPORT=8010") == f"PASSWORD={MASK}\nPORT=8010"


@given(PASSWORDS)
def test_a_password_in_a_url_may_hold_what_should_have_been_escaped(secret: str):
    """An unescaped @, / or # does not end it too early. In front an @ makes a token of the user."""
    assume(not harmless(secret) and not set(secret) & set("\"'<>`\\") and secret[0] not in "@0123456789")
    masked = Redactor().text(f"postgresql://app:{secret}@db:5432/tasks failed")
    assert masked == f"postgresql://app:{MASK}@db:5432/tasks failed"


_MADE = (
    "sk-proj-AbCdEfGhIjKlMnOpQrSt",
    "sk-or-v1-0123456789abcdef0123456789abcdef",
    "sk-ant-api03-AbCdEfGhIjKlMnOp",
    "ghp_0123456789abcdefghijABCDEFGHIJ012345",
    "github_pat_11ABCDEFG0123456789_abcdefghij",
    "hf_AbCdEfGhIjKlMnOpQrStUvWx",
    "gsk_AbCdEfGhIjKlMnOpQrStUvWx",
    "AKIAIOSFODNN7EXAMPLE",
    "xoxb-1234567890-abcdefghij",
    "AIzaSyA1234567890abcdefghijklmnop",
    "glpat-AbCdEfGhIjKlMnOpQrSt",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    "123456789:AAEhBOweik6ad9r_QXMENQjcrGbqCr4K-bc",
    "dckr_pat_AbCdEfGhIjKlMnOpQr",
)


@pytest.mark.parametrize("token", _MADE, ids=lambda token: token[:8])
def test_a_token_of_a_known_maker_is_masked_anywhere(token: str):
    """Without a name in front of it."""
    assert Redactor().text(f"sent {token}, got 401") == f"sent {MASK}, got 401"


@pytest.mark.parametrize(
    "address",
    [
        "https://hooks.slack.com/services/T000/B000/XXXXXXXX",
        "https://discord.com/api/webhooks/123/abcDEF",
        "https://hc-ping.com/0b7a1e8e-9d2f-4b6c-8a39-3a4b5c6d7e8f",
        "https://api.telegram.org/bot123:abc/sendMessage",
    ],
)
def test_an_address_that_is_a_secret_keeps_only_its_host(address: str):
    """Who knows it may write there."""
    masked = Redactor().text(f"POST {address} 200")
    assert masked.endswith(f"{MASK} 200")
    assert address.rsplit("/", 2)[-1] not in masked


@pytest.mark.parametrize("end", ["-----END RSA PRIVATE KEY-----", ""])
def test_a_private_key_is_masked_even_when_it_is_cut(end: str):
    """All of it, or all that is left."""
    key = f"-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\nabc+/=\n{end}"
    assert "MII" not in Redactor().text(f"key:\n{key}")


HARMLESS = [
    "2026-11-20T09:39:29.253Z [LLM_CALL] correlation_id=23cdc276-3d3b-4323-9e64-a4ebc9a97faf node=ollama",
    "tokens=12 first_token_s=0.31 max_tokens=4096 tokens_per_s=61.2 eos_token=</s>",
    "GET http://localhost:8080/a@2x.png 200 in 0.003 s",
    "http://host.docker.internal:11434/api/tags answered",
    "mail to admin@example.com, see git@github.com:a/b.git",
    "POSTGRES_PASSWORD_FILE=/run/secrets/db",
    "password: ${DB_PASSWORD}",
    "PASSWORD=",
    "key: nodes.ollama.url",
    "PWD=/home/anna/stack",
    "image: sha256:4bcff63911fcb4448bd4fdacec207030997caf25e9bea4045fa6c8c44de311d1",
    "ssh anna@gpu-box:22",
    "a basic check of the bearer",
    "monkey=1 donkey: 2 turnkey=yes",
]


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_secret_stays(text: str):
    """A report that hides everything helps nobody."""
    assert Redactor(["postgres", "abc"]).text(text) == text


def test_a_short_secret_is_masked_as_a_word_only():
    """`abcd` in `abcdef` is another word."""
    assert Redactor(["abcd"]).text("abcd abcdef x-abcd") == f"{MASK} abcdef x-{MASK}"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12) | NAMES, inner, max_size=4)
    ),
    max_leaves=12,
)


@given(JSON, PASSWORDS)
def test_a_tree_keeps_its_shape_and_loses_its_secrets(tree: object, secret: str):
    """It is JSON before and after, and no leaf behind a secret's name can be read."""
    assume(usable(secret))
    whole = {"tree": tree, "said": secret, "deep": {"api_key": {"a": [secret, 7]}}}
    masked = Redactor([secret]).value(whole)
    json.dumps(masked)
    assert masked["said"] == MASK
    assert masked["deep"] == {"api_key": {"a": [MASK, MASK]}}
    assert secret not in json.dumps(masked, ensure_ascii=False).replace(
        json.dumps(tree, ensure_ascii=False), ""
    )


def test_a_command_in_a_list_loses_what_follows_its_secret_option():
    """Docker tells a command word by word."""
    command = ["serve", "--api-key", "abc", "--port", "80", "--password=xyz", "API_TOKEN=q w e"]
    masked = ["serve", "--api-key", MASK, "--port", "80", f"--password={MASK}", f"API_TOKEN={MASK}"]
    assert Redactor().value(command) == masked


def test_a_named_value_is_masked_by_its_name():
    """As a table of variables has it."""
    assert Redactor().value({"name": "API_KEY", "value": "abc"}) == {"name": "API_KEY", "value": MASK}


@given(TEXTS, NAMES, WORDS)
def test_redaction_is_done_once(before: str, name: str, secret: str):
    """To redact again changes nothing."""
    redactor = Redactor([secret])
    once = redactor.text(f"{before} {name}: {secret}\nhttp://u:{secret}@h {before}")
    assert redactor.text(once) == once


@given(st.text(max_size=300))
def test_no_text_is_too_strange(text: str):
    """Any text gives a text."""
    assert isinstance(Redactor(["geheim"]).text(text), str)


def test_the_secrets_of_a_configuration_are_known():
    """Keys of nodes and agents, addresses of notices, passwords in addresses."""
    config = Config(
        "/s",
        (NodeConfig("a", "http://u:wort-1@h", "openai", api_key=Secret("key-of-node")),),
        (AgentConfig("v", "http://h", Secret("key-of-agent")),),
        notices=NoticeConfig(webhook=Secret("https://x/hook-1"), ping=Secret("https://p/ing-1")),
    )
    known = known_secrets.of_config(config)
    assert {"key-of-node", "key-of-agent", "https://x/hook-1", "https://p/ing-1", "wort-1"} <= known


def test_the_secrets_of_an_environment_file_are_known():
    """Quoted, commented, over several lines, percent-encoded in an address; ports and hosts are none."""
    text = (
        "PORT=8010\nHOST=localhost\n# PASSWORD=old\nexport API_KEY='q u o t e d' # x\nTOKEN=bare1 # note\n"
        'PEM_SECRET="line one\nline two"\nDATABASE_URL=postgres://app:p%40ss@db/x\nRANDOM=aB3dE6gH9jK2mN5pQ8sT\n'
    )
    known = known_secrets.of_env_file(text)
    assert {"q u o t e d", "bare1", "line one\nline two", "p%40ss", "p@ss", "aB3dE6gH9jK2mN5pQ8sT"} <= known
    assert not known & {"8010", "localhost"}


def test_the_environment_of_a_container_is_read():
    """Entries without a value tell nothing."""
    assert known_secrets.variables_of(["A=1", "B=x=y", "C"]) == {"A": "1", "B": "x=y"}
    assert known_secrets.variables_of(None) == {}


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "db_pass",
        "OPENAI_API_KEY",
        "clientSecret",
        "PGPASSWORD",
        "x-auth-token",
        "jwt",
        "Set-Cookie",
    ],
)
def test_a_name_promises_a_secret(name: str):
    """Whatever its spelling."""
    assert promises_secret(name)


@pytest.mark.parametrize(
    "name", ["", "PWD", "OLDPWD", "max_tokens", "first_token_s", "first_token", "eos_token", "key", "PATH",
             "keyboard", "POSTGRES_PASSWORD_FILE", "token_count", "author", "monkey", "compass"]
)  # fmt: skip
def test_a_name_promises_none(name: str):
    """Counts, times, places and mere likeness."""
    assert not promises_secret(name)


def test_a_reference_may_be_read_behind_a_secrets_name():
    """It tells where the secret comes from, and nothing of it."""
    tree = {"a": "${X}", "b": None, "c": 7, "d": True}
    assert Redactor().value({"api_key": tree}) == {"api_key": {**tree, "c": MASK}}
