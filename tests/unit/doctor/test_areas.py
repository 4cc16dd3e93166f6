"""Near misses and cases of causes that no test machine can produce for real."""

from dataclasses import replace

import pytest

from opskit.checks.state import NodeState
from opskit.doctor.areas import every
from opskit.doctor.cause import Cause
from opskit.doctor.evidence import Call, DockerFacts, ExaminedNode
from opskit.doctor.looks.calls import joined
from opskit.doctor.looks.compose import unset_variables
from opskit.doctor.looks.deep import MOST_WORDS, words_for
from opskit.facts.environment import known
from opskit.logs.record import facts
from opskit.providers import kinds
from opskit.providers.base import ModelInfo, Resident
from opskit.providers.ollama import cache_bytes_per_token
from opskit.result import Finding, Status
from tests.unit.doctor.evidence import GIB, MODEL, OLLAMA, container, holder, keys, well


def test_a_stack_that_is_well_has_no_cause():
    """The evidence that other tests change is without a cause."""
    assert keys(well()) == []


@pytest.mark.parametrize(
    ("facts", "platform", "wanted", "words"),
    [
        (DockerFacts(True, problem="no daemon"), "darwin", "docker-down", "open -ga Docker"),
        (DockerFacts(True, problem="no daemon"), "linux", "docker-down", "systemctl start docker"),
        (DockerFacts(True, silent=True), "darwin", "docker-silent", "quit Docker"),
        (DockerFacts(True, permitted=False), "linux", "docker-not-permitted", "usermod -aG docker"),
        (DockerFacts(True, others=("/x",), told_by="DOCKER_HOST"), "linux", "docker-host-stale", "unset"),
        (DockerFacts(True, others=("/x",)), "darwin", "docker-host-stale", "docker context use"),
        (DockerFacts(True, invalid=True), "linux", "docker-context-invalid", "docker context ls"),
    ],
)  # fmt: skip
def test_why_docker_does_not_answer(facts: DockerFacts, platform: str, wanted: str, words: str):
    """Each reason has its own remedy, on each system."""
    failed = Finding("docker", "docker", Status.FAIL)
    found = list(every.causes(well(docker=facts, platform=platform, findings=(failed,))))
    assert [one.id for one in found] == [wanted]
    assert words in found[0].remedy


def test_docker_that_was_left_out_is_no_cause():
    """Nothing that is configured needs Docker: its check was skipped, and nothing is said."""
    skipped = Finding("docker", "docker", Status.SKIP)
    assert keys(well(docker=DockerFacts(True), findings=(skipped,))) == []


@pytest.mark.parametrize(
    ("addresses", "platform", "network", "desktop", "wanted"),
    [
        (["127.0.0.1"], "linux", "bridge", False, True),
        (["127.0.0.1", "::1"], "linux", "mine", False, True),
        (["0.0.0.0"], "linux", "bridge", False, False),
        (["127.0.0.1"], "darwin", "bridge", False, False),
        (["127.0.0.1"], "linux", "bridge", True, False),
        (["127.0.0.1"], "linux", "host", False, False),
    ],
)
def test_a_server_on_loopback_that_a_container_looks_for(addresses, platform, network, desktop, wanted):
    """Only on Linux, and only where every listener is on loopback, a container cannot reach it."""
    one = container(variables={"OLLAMA_API_URL": "http://host.docker.internal:11434"}, network_mode=network)
    evidence = well(
        platform=platform,
        containers=(one,),
        docker=DockerFacts(True, answers=True, desktop=desktop),
        holders={11434: tuple(holder(address) for address in addresses)},
    )
    assert keys(evidence) == (["loopback-only:worker OLLAMA_API_URL"] if wanted else [])


@pytest.mark.parametrize(
    ("variables", "about", "wanted"),
    [
        ({"OLLAMA_API_URL": "http://localhost:11434"}, {}, True),
        ({"LLM_ENDPOINT": "http://127.0.0.1:11434/v1"}, {}, True),
        ({"METRICS_URL": "http://localhost:9100"}, {}, False),
        ({"OLLAMA_HOST": "http://localhost:11434"}, {}, False),
        ({"OLLAMA_API_URL": "http://ollama:11434"}, {}, False),
        ({"OLLAMA_API_URL": "http://localhost:11434"}, {"published": 11434}, False),
        ({"OLLAMA_API_URL": "http://localhost:11434"}, {"network_mode": "container:ollama"}, False),
    ],
)
def test_localhost_in_a_container(variables, about, wanted: bool):
    """Only addresses of the stack count, and only where localhost is not the server's own network."""
    found = keys(well(containers=(container(variables=variables, **about),)))
    assert bool(found) is wanted


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, []),
        ({"OLLAMA_NUM_PARALLEL": "4", "OLLAMA_CONTEXT_LENGTH": "8192"}, []),
        ({"OLLAMA_NUM_PARALLEL": "64", "OLLAMA_CONTEXT_LENGTH": "131072"}, ["ollama-memory:ollama"]),
        ({"OLLAMA_NUM_PARALLEL": "64"}, []),
        ({"OLLAMA_NUM_PARALLEL": "9", "OLLAMA_CONTEXT_LENGTH": "131072", "OLLAMA_KV_CACHE_TYPE": "q8_0",
          "OLLAMA_FLASH_ATTENTION": "1"}, []),
        ({"OLLAMA_NUM_PARALLEL": "9", "OLLAMA_CONTEXT_LENGTH": "131072", "OLLAMA_KV_CACHE_TYPE": "q8_0",
          "OLLAMA_FLASH_ATTENTION": "0"}, ["ollama-memory:ollama", "ollama-kv-cache:ollama"]),
        ({"OLLAMA_KV_CACHE_TYPE": "f16"}, []),
        ({"OLLAMA_KEEP_ALIVE": "0s"}, ["ollama-keep-alive:ollama"]),
        ({"OLLAMA_KEEP_ALIVE": "-1"}, []),
        ({"OLLAMA_MAX_QUEUE": "many"}, ["ollama-setting-invalid:ollama"]),
    ],
)  # fmt: skip
def test_settings_that_fight(settings, wanted: list[str]):
    """A model of 4 GiB whose cache costs 56 KiB a token, on a machine of 64 GiB."""
    node = ExaminedNode(OLLAMA, NodeState.OK, kind=kinds.OLLAMA, models=(MODEL,), shapes={"m:7b": 57_344})
    found = well(nodes=(node,), holders={11434: (holder(environment=known(settings)),)})
    assert keys(found) == wanted


def test_settings_that_nobody_may_read_are_not_judged():
    """A server of another user keeps its variables: then the shell's say nothing either."""
    evidence = well(holders={11434: (holder(environment=None),)}, shell=known({"OLLAMA_NUM_PARALLEL": "4"}))
    assert keys(evidence) == []


def test_the_context_of_a_model_that_has_no_more():
    """A model that was trained with less than `num_ctx` is not cut by anybody's mistake."""
    config = replace(OLLAMA, num_ctx=8192)
    small = ModelInfo("s:1b", GIB, context_length=2048)
    node = ExaminedNode(config, NodeState.OK, kind=kinds.OLLAMA, models=(small,),
                     resident=(Resident("s:1b", GIB, GIB, 2048),))  # fmt: skip
    assert keys(well(nodes=(node,))) == []


def test_two_names_of_one_process_are_one_server():
    """A server that listens on several addresses shares its port with nobody."""
    assert keys(well(holders={11434: (holder("127.0.0.1"), holder("::1"))})) == []
    both = (holder("127.0.0.1"), holder("::1", pid=8, name="python"))
    assert keys(well(holders={11434: both})) == ["two-servers:ollama"]


def test_workers_of_one_server_are_one_server():
    """Processes that share one listening socket (a forking server) are no rivals."""
    assert keys(well(holders={11434: (holder(pid=7), holder(pid=8))})) == []


def test_the_proxies_of_one_container_are_one_server():
    """Docker holds a published port once for each family of addresses."""
    both = (
        holder("0.0.0.0", pid=1, name="docker-proxy", container="ollama"),
        holder("::", pid=2, name="docker-proxy", container="ollama"),
    )
    assert keys(well(holders={11434: both})) == []


@pytest.mark.parametrize(
    ("platform", "explicit", "wanted"),
    [
        ("linux", False, []),
        ("linux", True, ["node-down:mlx", "mlx-idle:mlx"]),
        ("darwin", False, ["mlx-idle:mlx"]),
    ],
)
def test_mlx_is_missed_where_somebody_expects_it(platform: str, explicit: bool, wanted: list[str]):
    """On Linux nobody expects an MLX server that nobody configured; on a Mac it is idle for a reason."""
    base = well()
    mlx = replace(
        base.nodes[1], state=NodeState.REFUSED, config=replace(base.nodes[1].config, explicit=explicit)
    )
    calls = tuple(Call("opskit", "ollama", "m", None) for _ in range(5))
    assert keys(well(nodes=(base.nodes[0], mlx), calls=calls, platform=platform)) == wanted


def test_mlx_that_answered_once_is_not_idle():
    """One good answer of MLX in the hour is enough."""
    calls = tuple(Call("opskit", "ollama", "m", None) for _ in range(50))
    evidence = well(calls=(*calls, Call("opskit", "mlx", "d", None)))
    config = replace(evidence.config, router=replace(evidence.config.router, use_mlx_fallback=False))
    assert keys(replace(evidence, config=config)) == []


def test_every_cause_says_what_it_is_and_what_to_do():
    """Whatever is found has a title, evidence and a remedy."""
    evidence = well(
        memory_used_percent=99.0,
        nodes=(ExaminedNode(OLLAMA, NodeState.WEDGED, "no token"),),
        containers=(
            container(status="exited", exit_code=3),
            container("b", oom_killed=True, status="exited"),
        ),
    )
    found: list[Cause] = list(every.causes(evidence))
    assert len(found) == 4
    assert all(one.title and one.evidence and one.remedy for one in found)


def test_compose_tells_unset_variables_in_two_ways():
    """Version 1 writes names bare, version 2 in (escaped) quotes; other warnings are passed over."""
    old = "WARNING: The DB_PASSWORD variable is not set. Defaulting to a blank string.\n"
    new = 'level=warning msg="The \\"TOKEN\\" variable is not set. Defaulting to a blank string."\n'
    other = "WARNING: Found orphan containers (x)\n"
    assert unset_variables(old + new + other + old) == ("DB_PASSWORD", "TOKEN")


def test_the_cache_of_a_model():
    """Qwen2.5 7B: 28 layers, 4 cached heads of 128, 16 bits, keys and values: 56 KiB a token."""
    info = {"general.architecture": "qwen2", "qwen2.block_count": 28, "qwen2.attention.head_count": 28,
            "qwen2.attention.head_count_kv": 4, "qwen2.embedding_length": 3584}  # fmt: skip
    assert cache_bytes_per_token({"model_info": info}) == 57_344
    assert cache_bytes_per_token({"model_info": {**info, "qwen2.attention.head_count_kv": [4, 0]}}) is None
    assert cache_bytes_per_token({}) is None


@pytest.mark.parametrize(
    ("num_ctx", "loaded", "words"),
    [
        (None, None, 3072),
        (None, 2048, 1536),
        (8192, 2048, MOST_WORDS),
        (1_000_000, 4096, MOST_WORDS),
        (1, 1, 1),
    ],
)
def test_the_prompt_of_deep_is_bounded(num_ctx: int | None, loaded: int | None, words: int):
    """It fits well into the context that clients count on, and is never longer than the bound."""
    assert words_for(num_ctx, loaded) == words


def test_a_call_is_joined_with_its_end():
    """Each call has the fault of its own end; foreign writers' `source` is a node too."""
    lines = [
        b"[LLM_CALL] correlation_id=1 node=mlx model=d num_ctx=4096",
        b"[LLM_CALL] correlation_id=2 source=ollama model=m",
        b"[LLM_CRASH] correlation_id=1 node=mlx model=d fault=runner_crashed",
        b"[LLM_RESPONSE] correlation_id=2 source=ollama model=m prompt_eval_count=12",
        b"[LLM_RESPONSE] correlation_id=3 node=mlx model=d",
    ]
    found = joined(map(facts, lines), "opskit")
    assert [(one.node, one.fault, one.num_ctx, one.prompt_tokens) for one in found] == [
        ("mlx", "runner_crashed", 4096, None),
        ("ollama", None, None, 12),
    ]
