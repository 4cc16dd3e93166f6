"""Near misses and cases of causes that no test machine can produce for real."""

from pathlib import Path
from typing import Any

import pytest

from opskit.checks.probe_record import AgentProbe
from opskit.checks.state import NodeState
from opskit.config.schema import StackConfig
from opskit.doctor.cause import AREAS
from opskit.doctor.diagnosis import order
from opskit.doctor.examination import causes, checks
from opskit.errors import OpskitError
from opskit.facts.agent import AgentFacts
from opskit.facts.container import PublishedPort
from opskit.facts.docker_daemon import DockerAddress, DockerDaemon
from opskit.facts.environment import known
from opskit.facts.machine import DiskFacts
from opskit.facts.model_requests import ModelRequests
from opskit.facts.runner import RunnerProcess
from opskit.logs.calls import ModelCall
from opskit.providers.base import ModelInfo, Resident
from opskit.providers.ollama import cache_bytes_per_token
from opskit.records import replace
from opskit.result import Finding, Status
from opskit.schedule.job import VICTORIA as VICTORIA_JOB
from opskit.schedule.scheduler import ScheduleStatus
from opskit.system.host import MemoryGauge
from opskit.system.network import TcpResult
from opskit.system.process import Process
from tests.unit.doctor.evidence import (
    CONFIG,
    GIB,
    MLX,
    MODEL,
    OLLAMA,
    VICTORIA,
    container,
    keys,
    owner,
    probe,
    requests,
    well,
)


def daemon(*, silent: bool = False, **address: Any) -> DockerDaemon:
    """One that does not answer."""
    error = OpskitError("DOCKER_001", "no daemon")
    error.__cause__ = TimeoutError() if silent else ConnectionRefusedError()
    return DockerDaemon(address=DockerAddress(**address), error=error)


def test_a_stack_that_is_well_has_no_cause():
    """The evidence that other tests change is without a cause."""
    assert keys(well()) == []


def test_where_nobody_asked_for_a_server_none_is_missed():
    """At their usual addresses, unless a person named them, servers need not be there."""
    usual = [replace(node, explicit=False) for node in (OLLAMA, MLX)]
    gone = tuple(probe(node, NodeState.REFUSED, kind=None, models=None) for node in usual)
    assert keys(well(nodes=gone)) == []


def test_every_check_has_an_area_and_waits_for_another_that_is_there():
    """Each area of the page is examined, but for what is computed from others."""
    stack = StackConfig(env_files=("a.env",), compose={"app": ("compose.yml",)})
    examined = checks(well(config=replace(CONFIG, stack=stack)).target)
    assert {check.tags for check in examined} == {(area,) for area in AREAS if area != "models"}
    names = [check.name for check in examined]
    assert len(set(names)) == len(names)
    assert {name for check in examined for name in check.requires} <= set(names)


@pytest.mark.parametrize(
    ("facts", "others", "platform", "wanted", "words"),
    [
        (daemon(), (), "darwin", "docker-down", "open -ga Docker"),
        (daemon(), (), "linux", "docker-down", "systemctl start docker"),
        (daemon(silent=True), (), "darwin", "docker-silent", "quit Docker"),
        (daemon(is_permitted=False), (), "linux", "docker-not-permitted", "usermod -aG docker"),
        (daemon(chosen_by="DOCKER_HOST"), ("/x",), "linux", "docker-host-stale", "unset"),
        (daemon(), ("/x",), "darwin", "docker-host-stale", "docker context use"),
        (daemon(problem="no such context"), (), "linux", "docker-context-invalid", "docker context ls"),
    ],
)
def test_why_docker_does_not_answer(
    facts: DockerDaemon, others: tuple[str, ...], platform: str, wanted: str, words: str
):
    """Each reason has its own remedy, on each system."""
    failed = Finding("docker", "docker", Status.FAIL)
    evidence = well(docker=facts, other_daemons=others, platform=platform, findings=(failed,))
    [cause] = causes(evidence)
    assert cause.id == wanted
    assert words in cause.remedy


def test_docker_that_was_left_out_is_no_cause():
    """Nothing that is configured needs Docker: its check was skipped, and nothing is said."""
    skipped = Finding("docker", "docker", Status.SKIP)
    assert keys(well(docker=daemon(), findings=(skipped,))) == []


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
    one = container(
        variables={"OLLAMA_API_URL": "http://host.docker.internal:11434"},
        network_mode=network,
        extra_hosts=("host.docker.internal:host-gateway",),
    )
    evidence = well(
        platform=platform,
        containers=(one,),
        docker=DockerDaemon(
            address=DockerAddress(), operating_system="Docker Desktop" if desktop else "Debian"
        ),
        ports={11434: tuple(owner(address) for address in addresses)},
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
        ({"BACKENDS": "http://a:1;http://localhost:11434/v1"}, {}, True),
        ({"UPSTREAM": "127.0.0.1:11434"}, {}, True),
        ({"SETTINGS": '{"llm": {"base": "http://localhost:11434"}}'}, {}, True),
        ({"GATEWAY_BIND": "127.0.0.1:11434"}, {}, False),
        ({"UPSTREAM": "127.0.0.1:9100"}, {}, False),
        ({}, {"arguments": ("sh", "-c", "chat --api-base=http://localhost:11434")}, True),
        ({}, {"arguments": ("serve", "--host", "127.0.0.1:11434")}, False),
        ({}, {"arguments": ("serve", "--listen=127.0.0.1:11434")}, False),
        ({"UPSTREAM": "localhost:11434"}, {"ports": (PublishedPort(inside="11434/tcp"),)}, False),
    ],
)
def test_localhost_in_a_container(variables, about, wanted: bool):
    """Only addresses of the stack count, and only where localhost is not the server's own network."""
    found = keys(well(containers=(container(variables=variables, **about),)))
    assert bool(found) is wanted


@pytest.mark.parametrize(
    ("about", "system", "wanted"),
    [
        ({}, "Debian", True),
        ({"extra_hosts": ("host.docker.internal:host-gateway",)}, "Debian", False),
        ({"network_mode": "host"}, "Debian", False),
        ({}, "Docker Desktop", False),
    ],
)
def test_a_container_that_does_not_know_its_host(about, system: str, wanted: bool):
    """On Linux `host.docker.internal` is a name only where `extra_hosts` makes it one."""
    one = container(variables={"BACKEND": "http://host.docker.internal:11434"}, **about)
    docker = DockerDaemon(address=DockerAddress(), operating_system=system)
    found = keys(well(platform="linux", containers=(one,), docker=docker))
    assert found == (["host-name-unknown:worker"] if wanted else [])


@pytest.mark.parametrize(
    ("host_ip", "wanted"), [("192.168.7.2", True), ("127.0.0.1", False), ("0.0.0.0", False), ("", False)]
)
def test_a_port_that_is_published_on_one_address(host_ip: str, wanted: bool):
    """A node at localhost is not reached where its container publishes the port on another address alone."""
    node = replace(OLLAMA, explicit=True)
    one = container(ports=(PublishedPort(inside="11434/tcp", host_ip=host_ip, host_port=11434),))
    base = well(config=replace(CONFIG, nodes=(node,)), containers=(one,))
    evidence = replace(base, nodes=(probe(node, NodeState.REFUSED, "nothing listens"),))
    assert ("port-published-elsewhere:ollama" in keys(evidence)) is wanted


@pytest.mark.parametrize(("host_ports", "wanted"), [((), "node-down"), ((11434,), "localhost-in-container")])
def test_localhost_of_a_container_is_wrong_where_the_host_answers(host_ports, wanted: str):
    """That opskit runs in a container is a cause only with a server at the same port of the host."""
    node = replace(OLLAMA, explicit=True)
    config = replace(CONFIG, nodes=(node,))
    base = well(config=config)
    evidence = replace(
        base,
        target=replace(base.target, in_docker=True),
        nodes=(probe(node, NodeState.REFUSED, kind=None, models=None),),
        host_ports=frozenset(host_ports),
    )
    assert next(cause.id for cause in causes(evidence)) == wanted


@pytest.mark.parametrize(
    ("url", "wanted"),
    [(OLLAMA.url, "node-down"), ("http://10.0.0.9:11434", "localhost-in-container")],
)
def test_localhost_that_answered_before_was_no_mistake(url: str, wanted: str):
    """Where the log has an answer from this very address, being in a container explains nothing."""
    node = replace(OLLAMA, explicit=True)
    base = well(config=replace(CONFIG, nodes=(node,)))
    evidence = replace(
        base,
        target=replace(base.target, in_docker=True),
        nodes=(probe(node, NodeState.REFUSED, kind=None, models=None),),
        host_ports=frozenset((11434,)),
        requests=(ModelRequests("opskit", (ModelCall(1, "ollama", "m", None, "ok", url=url),)),),
    )
    assert next(cause.id for cause in causes(evidence)) == wanted


@pytest.mark.parametrize(
    ("image", "inside", "text", "wanted"),
    [
        ("ollama/ollama:0.12", "11434/tcp", "http://0.0.0.0", True),
        ("ollama/ollama:0.12", "80/tcp", "http://0.0.0.0", False),
        ("ollama/ollama:0.12", "11434/tcp", "0.0.0.0", False),
        ("open-webui", "8080/tcp", "http://proxy", False),
    ],
)
def test_a_container_of_ollama_that_listens_on_port_80(image: str, inside: str, text: str, wanted: bool):
    """A scheme without a port moves the server to port 80, unless that is the one that is published."""
    bindings = (PublishedPort(inside=inside, host_port=11434),)
    examined = container(variables={"OLLAMA_HOST": text}, image=image, bindings=bindings)
    assert ("ollama-host-port:worker" in keys(well(containers=(examined,)))) is wanted


@pytest.mark.parametrize(
    ("text", "wanted"), [("http://0.0.0.0", "ollama-host-port"), ("0.0.0.0:80", "node-down")]
)
def test_an_ollama_that_listens_on_port_80(text: str, wanted: str):
    """The variable of the process that holds port 80 tells why nothing listens on 11434."""
    node = replace(OLLAMA, explicit=True)
    settings = known({"OLLAMA_HOST": text})
    evidence = replace(
        well(config=replace(CONFIG, nodes=(node,))),
        nodes=(probe(node, NodeState.REFUSED, kind=None, models=None),),
        ports={80: (owner("0.0.0.0", environment=settings),)},
    )
    assert next(cause.id for cause in causes(evidence)) == wanted


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
    evidence = well(
        nodes=(probe(models=(MODEL,)),),
        cache_sizes={"ollama": {"m:7b": 57_344}},
        ports={11434: (owner(environment=known(settings)),)},
    )
    assert keys(evidence) == wanted


def test_settings_that_nobody_may_read_are_not_judged():
    """A server of another user keeps its variables: then the shell's say nothing either."""
    evidence = well(ports={11434: (owner(environment=None),)}, environ={"OLLAMA_NUM_PARALLEL": "4"})
    assert keys(evidence) == []


def test_the_context_of_a_model_that_has_no_more():
    """A model that was trained with less than `num_ctx` is not cut by anybody's mistake."""
    config = replace(OLLAMA, num_ctx=8192)
    small = ModelInfo("s:1b", GIB, context_length=2048)
    node = probe(config, models=(small,), resident=(Resident("s:1b", GIB, GIB, 2048),))
    assert keys(well(nodes=(node,))) == []


def test_two_names_of_one_process_are_one_server():
    """A server that listens on several addresses shares its port with nobody."""
    assert keys(well(ports={11434: (owner("127.0.0.1"), owner("::1"))})) == []
    both = (owner("127.0.0.1"), owner("::1", pid=8, name="python"))
    assert keys(well(ports={11434: both})) == ["two-servers:ollama"]


def test_workers_of_one_server_are_one_server():
    """Processes that share one listening socket (a forking server) are no rivals."""
    assert keys(well(ports={11434: (owner(pid=7), owner(pid=8))})) == []


def test_the_proxies_of_one_container_are_one_server():
    """Docker holds a published port once for each family of addresses."""
    both = (
        owner("0.0.0.0", pid=1, name="docker-proxy", container="ollama"),
        owner("::", pid=2, name="docker-proxy", container="ollama"),
    )
    assert keys(well(ports={11434: both})) == []


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
    evidence = well(nodes=(base.nodes[0], mlx), requests=requests(ollama=5), platform=platform)
    assert keys(evidence) == wanted


def test_mlx_that_answered_once_is_not_idle():
    """One good answer of MLX in the hour is enough."""
    config = replace(CONFIG, router=replace(CONFIG.router, use_mlx_fallback=False))
    assert keys(well(config=config, requests=requests(ollama=50, mlx=1))) == []
    assert keys(well(config=config, requests=requests(ollama=50), platform="darwin")) == ["mlx-idle:mlx"]


def test_every_cause_says_what_it_is_and_what_to_do():
    """Whatever is found has a title, evidence and a remedy."""
    evidence = well(
        memory=MemoryGauge(64 * GIB, GIB, 99.0, 0, 0.0),
        nodes=(probe(OLLAMA, NodeState.WEDGED, "no token"),),
        containers=(
            container(status="exited", exit_code=3),
            container("b", oom_killed=True, status="exited"),
        ),
    )
    found = causes(evidence)
    assert len(found) == 4
    assert all(cause.title and cause.evidence and cause.remedy for cause in found)


def test_the_cache_of_a_model():
    """Qwen2.5 7B: 28 layers, 4 cached heads of 128, 16 bits, keys and values: 56 KiB a token."""
    info = {"general.architecture": "qwen2", "qwen2.block_count": 28, "qwen2.attention.head_count": 28,
            "qwen2.attention.head_count_kv": 4, "qwen2.embedding_length": 3584}  # fmt: skip
    assert cache_bytes_per_token({"model_info": info}) == 57_344
    assert cache_bytes_per_token({"model_info": {**info, "qwen2.attention.head_count_kv": [4, 0]}}) is None
    assert cache_bytes_per_token({}) is None


def test_a_process_of_a_model_that_outlived_its_server_is_a_cause() -> None:
    """It holds memory for nobody; the command that frees it names the process."""
    command = ("llama-server", "--model", "/blobs/sha256-abc", "--port", "9")
    process = Process(77, 1, "llama-server", command, "me", "sleeping", 0.0, 0.0, 3 * GIB)
    orphan = RunnerProcess(process=process, port=9, weights="/blobs/sha256-abc")
    (cause,) = causes(well(orphaned_runners=(orphan,)))
    assert cause.key == "runner-orphaned"
    assert cause.title == "1 process of models outlived Ollama and holds 3.0 GiB"
    assert cause.remedy == "`kill 77` frees the memory"


@pytest.mark.parametrize(
    ("about", "wanted"),
    [
        ({}, []),
        ({"programs": frozenset({"ollama"})}, ["node-down"]),
        ({"requests": requests(ollama=1)}, ["node-down"]),
    ],
)
def test_a_model_server_is_missed_where_one_is_used(about: dict[str, Any], wanted: list[str]):
    """Where nothing is configured, installed or was asked, nobody misses one."""
    config = replace(CONFIG, nodes=(replace(OLLAMA, explicit=False),))
    nodes = (probe(config.nodes[0], NodeState.REFUSED, kind=None, models=None),)
    assert keys(well(config=config, nodes=nodes, **about)) == wanted


def test_a_state_folder_on_a_full_disk_follows_from_it():
    """The disk is the root; a folder that is merely somebody else's stands alone."""
    full = DiskFacts("/state", 40.0, GIB, inodes_free_percent=0.0, use="state")
    disk, folder = sorted(causes(well(disks=(full,), state_problem="no room")), key=order)
    assert (disk.key, folder.key) == ("disk-full:/state", "state-unusable")
    assert "0 % of its inodes" in disk.evidence[0]
    assert folder.because == (disk.key,)
    assert keys(well(state_problem="/state: Permission denied")) == ["state-unusable"]


def test_a_victoria_that_a_job_keeps_is_missed():
    """Nobody named her address, but her job is installed: that she is down is told, and why."""
    config = replace(VICTORIA, explicit=False)
    facts = AgentFacts(config=config, tcp=TcpResult(0.0, "refused"))
    agent = AgentProbe(config=config, facts=facts, state=NodeState.REFUSED, detail="nothing listens")
    gone, again = "its interpreter /opt/old/bin/python is gone", "`opskit schedule install victoria`"
    job = ScheduleStatus("systemd", {Path("/unit"): "text"}, problem=gone, remedy=again, kind=VICTORIA_JOB)
    (cause,) = causes(well(agents=(agent,), victoria_job=job))
    assert (cause.key, cause.remedy) == ("agent-down:victoria", again)
    assert any(gone in sign for sign in cause.evidence)
    assert causes(well(agents=(agent,))) == []
