"""Environments: names are facts, values only where they are harmless."""

from hypothesis import given
from hypothesis import strategies as st

from opskit.facts.environment import OLLAMA_SETTINGS, RUNTIME_SETTINGS, known, url_parts


@given(st.dictionaries(st.text(max_size=12), st.just("s3cr3t-value")))
def test_unknown_variables_keep_their_values_to_themselves(variables: dict[str, str]):
    """Whatever a variable is called, a value that is no URL and no known setting is not kept."""
    found = known(
        {name: value for name, value in variables.items() if name not in OLLAMA_SETTINGS | RUNTIME_SETTINGS}
    )
    assert "s3cr3t-value" not in repr(found.urls) + repr(found.settings)


def test_a_url_is_kept_without_its_secrets():
    """Scheme, host and port of an address are kept; user, password, path and query are not."""
    found = known(
        {"DATABASE_URL": "postgresql://me:geheim@db:5432/x?key=geheim", "OLLAMA_API_URL": "http://a"}
    )
    assert found.urls["DATABASE_URL"].text == "postgresql://db:5432"
    assert found.urls["OLLAMA_API_URL"].port == 80
    assert "geheim" not in repr(found)


def test_a_setting_that_holds_something_else_is_dropped():
    """A harmless name with a strange value is treated as a secret."""
    found = known({"OLLAMA_KEEP_ALIVE": "5m", "OLLAMA_HOST": "tok en!", "OLLAMA_NUM_PARALLEL": ""})
    assert dict(found.settings) == {"OLLAMA_KEEP_ALIVE": "5m", "OLLAMA_NUM_PARALLEL": ""}
    assert found.names == {"OLLAMA_KEEP_ALIVE", "OLLAMA_HOST"}


@given(st.text())
def test_any_text_may_stand_where_a_url_should(text: str):
    """What is no URL is None; nothing raises."""
    url_parts(text)
