"""Causes in what was configured and in the machine, produced with real files, variables and thresholds."""

import json
from pathlib import Path

import pytest

from opskit.doctor.examination import examine
from opskit.doctor.target import examination_target
from opskit.sandbox.faults import SandboxFault, SandboxFaultKind
from opskit.sandbox.stage import Stage
from tests.parts.examining import QUIET, cause, examined, keys, on_stage, target_of
from tests.parts.raw_server import free_port

OFF = {"OLLAMA_API_URL": ""}


@pytest.mark.parametrize(
    ("text", "advice"),
    [("localhost:11434", "http://localhost:11434"), ("http://", "write it like http://localhost:11434")],
)
async def test_an_address_that_cannot_be_used(tmp_path: Path, text: str, advice: str):
    """A missing scheme or host is a cause with the right spelling; all else is examined all the same."""
    found = await examined(tmp_path, env={"OLLAMA_API_URL": text})
    wrong = cause(found, "address-invalid:OLLAMA_API_URL")
    assert advice in wrong.remedy
    assert found.entries[0].explains == ("configuration",)
    assert any(one.check == "memory" and one.status == "pass" for one in found.findings)


async def test_a_file_that_is_wrong_does_not_end_the_examination(tmp_path: Path):
    """Mistakes of a configuration file are told with file and line, and no value is shown."""
    config = {"router": {"max_fallbacks": "geheim"}, "nodess": {}}
    found = await examined(tmp_path, env=OFF, config=config)
    wrong = cause(found, "config-invalid")
    assert any("opskit.yaml:" in one for one in wrong.evidence)
    assert "geheim" not in json.dumps(found.as_json())
    assert any(one.check == "disk state" and one.status == "pass" for one in found.findings)


async def test_a_bind_address_that_is_dialled(tmp_path: Path):
    """0.0.0.0 in a variable that clients read is told, though opskit itself dials 127.0.0.1."""
    async with Stage() as stage:
        url = f"http://0.0.0.0:{stage.ollama.port}"
        found = await on_stage(tmp_path, stage, env={"OLLAMA_API_URL": url})
    assert keys(found) == ["bind-address:nodes.ollama.url"]
    assert "OLLAMA_API_URL" in found.causes[0].evidence[0]


async def test_a_container_alone_does_not_explain_a_server_that_is_down(tmp_path: Path):
    """In a container, with nothing at the same port of the machine around it, a node is simply down."""
    url = f"http://localhost:{free_port()}"
    found = await examined(tmp_path, env={"OLLAMA_API_URL": url}, in_docker=True)
    assert keys(found) == ["node-down:ollama"]


async def test_the_variable_of_ollama_that_cannot_be_used(tmp_path: Path):
    """A mistake in OLLAMA_HOST is told by its name, and all else is examined."""
    environ = {**target_of(tmp_path).environ, "OLLAMA_HOST": "http://me:geheim@box"}
    del environ["OLLAMA_API_URL"]
    target = examination_target(None, environ=environ, cwd=tmp_path, platform="linux", in_docker=False)
    found = await examine(target)
    assert "user name or password" in str(cause(found, "address-invalid:OLLAMA_HOST"))
    assert "geheim" not in json.dumps(found.as_json())


async def with_server_variable(folder: Path, text: str):
    """An examination of a shell that has OLLAMA_HOST alone."""
    environ = {**target_of(folder).environ, "OLLAMA_HOST": text}
    environ.pop("OLLAMA_API_URL", None)
    return await examine(
        examination_target(None, environ=environ, cwd=folder, platform="linux", in_docker=False)
    )


async def test_the_variable_of_ollama_with_a_scheme_and_no_port(tmp_path: Path):
    """http:// without a port means port 80 to Ollama, which is the one cause, with what to write."""
    found = await with_server_variable(tmp_path, "http://127.0.0.4/ollama")
    assert keys(found) == ["ollama-host-port:ollama"]
    wrong = cause(found, "ollama-host-port:ollama")
    assert wrong.title == "OLLAMA_HOST of this shell means port 80, not 11434"
    assert "OLLAMA_HOST=http://127.0.0.4:11434/ollama" in wrong.remedy


async def test_the_variable_of_ollama_with_a_port_is_no_cause(tmp_path: Path):
    """With a port, the scheme means nothing, and a server that is down is merely that."""
    found = await with_server_variable(tmp_path, f"http://127.0.0.1:{free_port()}")
    assert keys(found) == ["node-down:ollama"]


async def test_localhost_that_answers_in_a_container_is_no_mistake(tmp_path: Path):
    """Where others answer at localhost (a shared network, a stack in one container), one is simply down."""
    async with Stage([("veronica", None, SandboxFault(SandboxFaultKind.REFUSE))]) as stage:
        stack = {"containers": {"veronica": []}}
        found = await on_stage(tmp_path, stage, in_docker=True, config={"stack": stack})
    assert keys(found) == ["agent-down:veronica"]


async def test_a_secret_without_a_value(tmp_path: Path):
    """A secret of the configuration whose variable is not set is named, with where it stands."""
    nodes = {
        "cloud": {"url": f"http://127.0.0.1:{free_port()}", "source": "openai", "api_key": "${NOT_THERE}"}
    }
    found = await examined(tmp_path, env=OFF, config={"nodes": nodes})
    assert keys(found) == ["node-down:cloud", "secret-unset:nodes.cloud.api_key"]
    assert "opskit.yaml:" in found.causes[1].evidence[0]


async def test_secrets_of_environment_files(tmp_path: Path):
    """Empty secrets and placeholders are named; values, and keys that are no secrets, are not."""
    (tmp_path / ".env").write_text(
        "OPENAI_API_KEY=\nDB_PASSWORD=changeme\nHF_TOKEN='your_token_here'\nREAL_SECRET=geheim\nLEVEL=\n"
    )
    found = await examined(tmp_path, env=OFF, config={"stack": {"env_files": [".env", "lost.env"]}})
    assert keys(found) == [f"env-file-missing:{tmp_path}/lost.env", f"secret-empty:{tmp_path}/.env"]
    told = cause(found, f"secret-empty:{tmp_path}/.env").evidence
    assert told == ("no value: OPENAI_API_KEY", "still the value of an example: DB_PASSWORD, HF_TOKEN")
    assert "geheim" not in json.dumps(found.as_json())


async def test_a_good_environment_file_is_no_cause(tmp_path: Path):
    """Real values that merely look odd are left alone."""
    (tmp_path / ".env").write_text(
        'API_KEY="sk-abc"\nTOKEN=x1\nPUBLIC_KEYS=["a"]\nPASSWORD=password # local\n'
    )
    found = await examined(tmp_path, env=OFF, config={"stack": {"env_files": [".env"]}})
    assert keys(found) == []


async def test_a_disk_that_is_nearly_full(tmp_path: Path):
    """The state folder and the models on one disk are one cause, with what shows its contents."""
    (tmp_path / ".ollama/models").mkdir(parents=True)
    watch = {**QUIET["watch"], "disk_percent": 0.001}
    found = await examined(tmp_path, env=OFF, config={"watch": watch})
    (full,) = found.causes
    assert full.id == "disk-full"
    assert {"disk state", "disk models"} <= set(found.entries[0].explains)
    assert "du -sh" in full.remedy


async def test_memory_that_is_nearly_used_up(tmp_path: Path):
    """Used memory above `watch.memory_percent` is a warning."""
    found = await examined(tmp_path, env=OFF, config={"watch": {**QUIET["watch"], "memory_percent": 0.001}})
    assert keys(found) == ["memory-full"]
    assert found.status == "warn"
    assert found.exit == 1


async def test_a_machine_without_nodes_is_no_cause(tmp_path: Path):
    """Who switched every node off has none to miss."""
    found = await examined(tmp_path, env=OFF)
    assert (keys(found), found.exit) == ([], 0)
