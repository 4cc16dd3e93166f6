"""What llama.cpp's server tells, and what is made of it: answers as they come over the wire."""

import pytest

from opskit.checks.node_probe import probe_node
from opskit.checks.probe_record import ProbeOptions
from opskit.config.schema import Config, NodeConfig
from opskit.facts.survey import Survey
from opskit.llm.faults import FaultKind, classify
from opskit.providers.base import CallCause, CallError, End, Resident, Slot
from opskit.providers.http import HttpClient
from opskit.providers.llamacpp import LlamaCpp
from opskit.result import Status
from tests.parts.dialects import DONE, collect, delta, said, sse
from tests.parts.raw_server import answer, reply_json, serving

META = {"n_ctx": 512, "n_ctx_train": 8192, "n_params": 134515008, "size": 96576768, "ftype": "Q4_1"}
ENTRY = {"id": "smol", "aliases": ["smol"], "object": "model", "owned_by": "llamacpp", "meta": META}
PROPS = {"total_slots": 2, "model_ftype": "Q4_1", "chat_template_caps": {"supports_tools": False}}
NO_PAGE = reply_json(
    {"error": {"message": "This server does not support it", "type": "not_supported_error", "code": 501}},
    status="501 Not Implemented",
)
LOADING = reply_json(
    {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}},
    status="503 Service Unavailable",
    Server="llama.cpp",
)
IDLE = {"id": 0, "n_ctx": 512, "is_processing": False}
READING = {"id": 0, "is_processing": True, "id_task": 3, "n_prompt_tokens_processed": 64, "next_token": []}
WRITING = {
    "id": 1,
    "is_processing": True,
    "id_task": 7,
    "n_prompt_tokens_processed": 13,
    "next_token": [{"has_next_token": True, "n_remain": 15, "n_decoded": 45}],
}


def listing(*entries):
    return reply_json({"object": "list", "data": list(entries)})


@pytest.fixture
async def server():
    """A server that has loaded one model."""
    async with serving() as server:
        server.replies |= {
            "/health": reply_json({"status": "ok"}),
            "/v1/models": listing(ENTRY),
            "/props": reply_json(PROPS),
            "/slots": reply_json([IDLE, IDLE]),
        }
        yield server


@pytest.fixture
async def provider(server):
    http = HttpClient(server.url, metadata_s=1.0)
    yield LlamaCpp(http)
    await http.aclose()


async def test_its_one_model_is_described(provider):
    """Size, parameters, quantisation and both contexts: what was trained, and what one request has."""
    (model,) = await provider.models()
    assert (model.name, model.size_bytes, model.parameters) == ("smol", 96576768, 134515008)
    assert (model.quantization, model.context_length, model.resident) == ("Q4_1", 8192, True)
    assert model.capabilities == {"completion"}
    assert await provider.resident() == (Resident("smol", 96576768, context_length=512),)


@pytest.mark.parametrize("props", [NO_PAGE, reply_json([]), answer(b"<html>")], ids=["off", "list", "page"])
async def test_an_older_server_tells_less(server, provider, props):
    """Without properties and metadata there is still a model that is loaded."""
    server.replies |= {"/props": props, "/v1/models": listing({"id": "old.gguf", "owned_by": "llamacpp"})}
    assert [model.name for model in await provider.models()] == ["old.gguf"]
    assert await provider.resident() == (Resident("old.gguf"),)


async def test_a_context_is_read_from_the_properties_too(server, provider):
    """Where the list does not tell it."""
    props = {"default_generation_settings": {"n_ctx": 4096}, "chat_template_caps": {"supports_tools": True}}
    server.replies |= {"/props": reply_json(props), "/v1/models": listing({"id": "m"})}
    assert await provider.resident() == (Resident("m", context_length=4096),)
    (model,) = await provider.models()
    assert "tools" in model.capabilities


async def test_a_server_that_sleeps_has_no_model_loaded(server, provider):
    """After a while without requests it frees the memory: a question would load the model again."""
    server.replies["/props"] = reply_json(PROPS | {"is_sleeping": True})
    assert await provider.resident() == ()
    assert [model.resident for model in await provider.models()] == [False]


async def test_a_server_of_several_models_tells_which_are_loaded(server, provider):
    """The list names every model it could load."""
    states = {"a": "loaded", "b": "unloaded", "c": "loading"}
    server.replies["/v1/models"] = listing(
        *({"id": name, "status": {"value": state}} for name, state in states.items())
    )
    assert {model.name: model.resident for model in await provider.models()} == {
        "a": True,
        "b": False,
        "c": False,
    }
    assert [model.name for model in await provider.resident()] == ["a"]


@pytest.mark.parametrize("call", ["version", "models", "resident"])
async def test_while_it_loads_every_page_says_so(server, provider, call):
    """Loading is loading, whatever is asked."""
    server.replies = dict.fromkeys(server.replies, LOADING)
    with pytest.raises(CallError) as caught:
        await getattr(provider, call)()
    assert classify(caught.value).kind is FaultKind.LOADING


@pytest.mark.parametrize("call", ["models", "resident", "slots"])
async def test_a_locked_page_is_called_locked(server, provider, call):
    """With a key only the health page is open."""
    locked = reply_json({"error": {"message": "Invalid API Key", "code": 401}}, status="401 Unauthorized")
    server.replies |= {"/v1/models": locked, "/props": locked, "/slots": locked}
    assert await provider.version() == "llama.cpp"
    with pytest.raises(CallError) as caught:
        await getattr(provider, call)()
    assert classify(caught.value).kind is FaultKind.UNAUTHORISED


@pytest.mark.parametrize(
    ("entries", "slots"),
    [
        ([IDLE, WRITING], (Slot(False), Slot(True, 7, 13, 45))),
        ([READING], (Slot(True, 3, 64, 0),)),
        ([{**WRITING, "next_token": {"n_decoded": 9}}], (Slot(True, 7, 13, 9),)),
        ([{"is_processing": "yes", "id_task": -1, "next_token": [7]}, None], (Slot(False),)),
    ],
    ids=["one writes", "one reads", "an older shape", "nonsense"],
)
async def test_its_slots_tell_what_it_works_on(server, provider, entries, slots):
    """Each with the counters of its request."""
    server.replies["/slots"] = reply_json(entries)
    assert await provider.slots() == slots


@pytest.mark.parametrize("reply", [NO_PAGE, reply_json({"slots": []})], ids=["off", "no list"])
async def test_a_server_that_hides_its_slots_tells_nothing(server, provider, reply):
    """The page may be switched off."""
    server.replies["/slots"] = reply
    assert await provider.slots() is None


async def test_its_own_clock_measures_the_answer(server, provider):
    """`timings` give the seconds in which the tokens were made, in whatever chunk they come."""
    timings = {"prompt_n": 32, "prompt_ms": 738.9, "predicted_n": 3, "predicted_ms": 99.864}
    usage = {"choices": [], "usage": {"completion_tokens": 3, "prompt_tokens": 32}}
    server.replies["/v1/chat/completions"] = answer(
        sse(delta("Hi")),
        sse(delta(finish="stop") | {"timings": timings}),
        sse(usage),
        DONE,
        framing="chunked",
    )
    events = await collect(provider, "smol")
    assert said(events) == "Hi"
    assert isinstance(events[-1], End)
    assert (events[-1].usage.prompt_tokens, events[-1].usage.completion_tokens) == (32, 3)
    assert events[-1].usage.eval_s == pytest.approx(0.099864)


async def test_a_name_that_it_does_not_list_is_not_sent(server, provider):
    """Its one model would answer under any name."""
    with pytest.raises(CallError) as caught:
        await collect(provider, "qwq:32b")
    assert caught.value.cause is CallCause.NOT_LISTED
    assert "another might answer" in caught.value.text
    assert not server.bodies("/v1/chat/completions")


async def test_a_probe_of_a_server_that_loads_says_loading(server, tmp_path):
    """From the first page on, and nothing is asked of the model."""
    server.replies = dict.fromkeys((*server.replies, "/api/version"), LOADING)
    node = NodeConfig("llm", server.url, "llamacpp", required=True)
    config = Config(str(tmp_path), (node,), ())
    async with Survey(config, {}, state_folder=tmp_path, cwd=tmp_path) as survey:
        found = (await probe_node(survey, node, ProbeOptions())).finding()
    assert (found.state, found.status) == ("loading", Status.INCONCLUSIVE)
    assert "Loading model" in found.detail
    assert not server.bodies("/v1/chat/completions")


async def test_it_is_asked_over_connections_that_do_not_stay(server, provider):
    """Its few threads each wait 5 s on a connection that is kept, while others queue."""
    await provider.models()
    await provider.slots()
    assert {request.headers["connection"] for request in server.seen} == {"close"}
