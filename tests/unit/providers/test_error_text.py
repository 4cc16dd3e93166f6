"""The sentence and the type that an error body says, whatever its shape."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.providers.failures import SIGN_IN, error_text

SIZE = {
    "code": 400,
    "message": "the request exceeds the available context size",
    "type": "exceed_context_size_error",
    "n_prompt_tokens": 28904,
    "n_ctx": 256,
}
COUNTED = "the request exceeds the available context size (the prompt has 28904 tokens, the context 256)"


@pytest.mark.parametrize(
    ("body", "text", "kind"),
    [
        ({"error": "no"}, "no", None),
        ({"error": {"message": "no", "type": "api_error", "code": None}}, "no", "api_error"),
        ({"error": {"message": "no", "type": "invalid_request_error", "code": "too_long"}}, "no", "too_long"),
        (
            {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}},
            "busy",
            "overloaded_error",
        ),
        ({"object": "error", "message": "no", "code": 400}, "no", None),
        ({"error": SIZE}, COUNTED, "exceed_context_size_error"),
        ({"error": json.dumps({"error": SIZE})}, COUNTED, "exceed_context_size_error"),
        ({"error": {"message": json.dumps({"error": SIZE})}}, COUNTED, "exceed_context_size_error"),
        ({"error": "{not json"}, "{not json", None),
        ({"error": "{}"}, "{}", None),
        ({"detail": {"msg": "busy", "type": "service_unavailable"}}, "busy", "service_unavailable"),
        ({"detail": {"error": {"message": "nothing is loaded", "trace": None}}}, "nothing is loaded", None),
        (
            {"detail": [{"loc": ["body", "seed"], "msg": "no integer", "type": "int"}]},
            "body.seed: no integer",
            "int",
        ),
        ({"error": "unauthorized", "signin_url": "https://ollama.com/connect"}, "unauthorized", SIGN_IN),
    ],
)
def test_an_error_body_is_read(body: dict[str, object], text: str, kind: str | None) -> None:
    """Each shape in the wild gives one sentence and, where it is told, its type."""
    assert error_text(body) == (text, kind)
    assert error_text(json.dumps(body).encode()) == (text, kind)


def test_numbers_that_the_sentence_holds_are_not_repeated() -> None:
    """A newer llama.cpp says them by itself."""
    sentence = "request (28904 tokens) exceeds the available context size (256 tokens)"
    assert error_text({"error": {**SIZE, "message": sentence}})[0] == sentence


def test_json_in_json_in_json_ends() -> None:
    """However deep a body is wrapped, one line comes out."""
    body = "no"
    for _ in range(12):
        body = json.dumps({"error": body})
    assert len(error_text({"error": body})[0].splitlines()) == 1


@given(
    st.recursive(st.none() | st.integers() | st.text(), lambda s: st.dictionaries(st.text(), s) | st.lists(s))
)
def test_no_body_breaks_it(body: object) -> None:
    """Whatever JSON comes, there is a text of at most one line."""
    text, _ = error_text(json.dumps({"error": body}).encode())
    assert len(text.splitlines()) <= 1
