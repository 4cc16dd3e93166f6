"""`opskit diagnose containers` and its bundle on a real Docker daemon."""

import asyncio
import json
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from docker.models.containers import Container

from tests.parts.command import Result, opskit
from tests.parts.docker import POLL_S, START_S, Cutter, Engine
from tests.parts.leaks import COMMANDS, HARMLESS, PASSWORD, PLACES, SURROUNDINGS, TOKENS, WRITTEN

KEY = "Zq8-streng-geheim-31"


def until(true: Callable[[], bool]) -> None:
    """The daemon does it by itself; asked again until it has."""
    limit = time.monotonic() + START_S
    while not true():
        assert time.monotonic() < limit
        time.sleep(POLL_S)


def health(one: Container) -> str:
    one.reload()
    return str(one.attrs["State"]["Health"]["Status"])


def check(command: str, interval_ms: int = 20) -> dict[str, Any]:
    """A health check. Each run leaves three of the 256 events by which Docker tells who stopped what."""
    return {"test": ["CMD", "sh", "-c", command], "interval": interval_ms * 1_000_000, "retries": 1}


def configured(folder: Path, *names: str, grace_s: float = 60.0, **stack: Any) -> Path:
    """A configuration whose stack is these containers."""
    path = folder / "opskit.yaml"
    content = {"containers": {"test": list(names)}, **stack}
    path.write_text(yaml.safe_dump({"stack": content, "recovery": {"startup_grace_s": grace_s}}))
    return path


def diagnose(box: Engine, folder: Path, *arguments: str, **env: str) -> Result:
    return opskit("diagnose", *arguments, home=folder, env={**box.environment, **env})


def by_name(result: Result) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in result.document["areas"]["containers"]["containers"]}


def test_each_container_is_judged_by_its_state(box: Engine, tmp_path: Path):
    """Healthy, unhealthy, ended well and badly, restarting, stopped by hand: each with its own verdict."""
    well = box.run("echo ready; sleep 1000", healthcheck=check("true", 1000), mem_limit="64m")
    sick = box.run("sleep 1000", healthcheck=check("echo no disk; exit 1", 1000))
    done, failed = box.run("exit 0"), box.run("echo out of paper >&2; exit 7")
    flapping = box.run("exit 3", restart_policy={"Name": "always"})
    stopped = box.run("sleep 1000")
    stopped.stop()
    for one in (done, failed, stopped):
        one.wait()
    until(lambda: health(well) == "healthy" and health(sick) == "unhealthy")
    until(lambda: (flapping.reload(), flapping.attrs["RestartCount"])[1] >= 3)
    names = [one.name for one in (well, sick, done, failed, flapping, stopped)]
    config = configured(tmp_path, *names, grace_s=0.1)
    result = diagnose(box, tmp_path, "containers", "--json", "--config", str(config))
    assert result.status == 1, result.err
    verdicts = {one["target"]: (one["status"], one["state"]) for one in result.document["findings"]}
    assert verdicts[well.name] == ("pass", "healthy")
    assert verdicts[sick.name] == ("fail", "unhealthy")
    assert verdicts[done.name] == ("pass", "exited")
    assert verdicts[failed.name] == ("fail", "exited")
    assert verdicts[flapping.name] == ("fail", "restarting")
    assert verdicts[stopped.name] == ("warn", "stopped")
    seen = by_name(result)
    assert set(seen) == set(names)
    assert seen[well.name]["log"].endswith("ready")
    assert seen[well.name]["memory_limit_bytes"] == 64 * 1024 * 1024
    assert 0 < seen[well.name]["memory_used_bytes"] < 64 * 1024 * 1024
    assert seen[well.name]["cpu_percent"] is not None
    assert seen[sick.name]["health_output"] == "no disk"
    assert (seen[failed.name]["exit_code"], seen[failed.name]["log"]) == (7, "out of paper")


def test_the_last_line_names_what_is_broken(box: Engine, tmp_path: Path):
    """For a person: tables, log lines, and the culprit at the end."""
    failed = box.run("echo first; echo second; exit 7")
    failed.wait()
    config = configured(tmp_path, failed.name)
    result = diagnose(box, tmp_path, "containers", "--lines", "1", "--config", str(config))
    assert result.status == 1
    assert "exited (7)" in result.out
    assert "second" in result.out
    assert "first" not in result.out
    assert result.out.splitlines()[-1].startswith(f"broken: {failed.name} (exited)")


def test_a_container_that_should_be_there_is_missed(box: Engine, tmp_path: Path):
    """One that the configuration names and Docker does not know is broken."""
    there = box.run("sleep 1000")
    config = configured(tmp_path, there.name, "opskit-nobody")
    result = diagnose(box, tmp_path, "containers", "--json", "--config", str(config))
    assert result.status == 1
    assert result.finding("opskit-nobody")["state"] == "missing"


def test_a_compose_project_is_found_by_its_labels(box: Engine, tmp_path: Path):
    """All containers of a project belong to the stack when one of them is named."""
    labels = {"com.docker.compose.project": box.name("p")}
    named, other, stranger = (
        box.run("sleep 1000", labels=labels),
        box.run("sleep 1000", labels=labels),
        box.run("sleep 1000"),
    )
    config = configured(tmp_path, named.name)
    seen = by_name(diagnose(box, tmp_path, "containers", "--json", "--config", str(config)))
    assert set(seen) == {named.name, other.name}
    assert stranger.name not in seen


def test_volumes_and_networks_say_who_uses_them(box: Engine, tmp_path: Path):
    """A volume names its containers; every network is listed."""
    volume = box.client.volumes.create(box.name("v"))
    try:
        made = box.run("sleep 1000", volumes={volume.name: {"bind": "/data", "mode": "rw"}})
        config = configured(tmp_path, made.name)
        area = diagnose(box, tmp_path, "containers", "--json", "--config", str(config)).document["areas"][
            "containers"
        ]
    finally:
        box.clean()
        volume.remove()
    assert next(one["used_by"] for one in area["volumes"] if one["name"] == volume.name) == [made.name]
    assert "host" in {one["name"] for one in area["networks"]}
    assert any(made.name in one["used_by"] for one in area["images"])


def test_a_strange_log_is_shown_on_clean_lines(box: Engine, tmp_path: Path):
    """Invalid UTF-8, colours and control characters do not reach the terminal."""
    made = box.run(r"printf 'a\377b \033[31mred\033[0m \007bell\n'; sleep 1000")
    config = configured(tmp_path, made.name)
    until(lambda: b"bell" in made.logs())
    seen = by_name(diagnose(box, tmp_path, "containers", "--json", "--config", str(config)))
    assert seen[made.name]["log"] == "a\N{REPLACEMENT CHARACTER}b red  bell"


async def test_a_docker_that_hangs_ends_nothing(box: Engine, cutter: Cutter, tmp_path: Path):
    """A socket that accepts and is silent: the areas that need no Docker are shown, the status is 3."""
    cutter.silent = True
    result = await asyncio.to_thread(
        opskit, "diagnose", "system", "containers", "--json", home=tmp_path, env=cutter.environment
    )
    assert result.status == 3, result.out
    areas = result.document["areas"]
    assert areas["system"]["load"]["memory"]["total_bytes"] > 0
    assert areas["containers"]["status"] == "inconclusive"
    assert "gave no answer within" in result.finding("docker")["detail"]


def test_a_bundle_holds_no_secret(box: Engine, tmp_path: Path):
    """Keys of the configuration, of a container's environment, of its command, log, labels and files."""
    made = box.run(
        f"echo started with {KEY}; echo 'POST /x Authorization: Bearer tok-{KEY[::-1]}'; sleep 1000",
        environment={"API_KEY": KEY, "MODE": "fast"},
        labels={"basic_auth_password": "label-secret-1"},
        healthcheck=check("echo password=check-secret-1; true"),
    )
    until(lambda: health(made) == "healthy" and b"Bearer" in made.logs())
    compose = tmp_path / "compose.yml"
    compose.write_text(
        "services:\n  db:\n    image: x\n    environment:\n      POSTGRES_PASSWORD: file secret 1 # note\n"
        "      MODE: fast\n    command: [serve, --api-key, file-secret-2]\n"
    )
    (tmp_path / ".env").write_text("LICENSE_KEY=dotenv-secret-1\nPORT=8010\n")
    state = tmp_path / "state" / "opskit"
    state.mkdir(parents=True)
    (state / "opskit.log").write_text("x [REQUEST] goal=dotenv-secret-1\n" + "y" * 80 + "\n")
    config = configured(tmp_path, made.name, compose={"p": [str(compose)]})
    config.write_text(
        config.read_text()
        + 'nodes: {far: {url: "http://127.0.0.1:9", source: openai, api_key: "${FAR_KEY}"}}\n'
    )
    bundle = tmp_path / "b.tar.gz"
    result = diagnose(
        box,
        tmp_path,
        "containers",
        "system",
        "--config",
        str(config),
        "--bundle",
        str(bundle),
        FAR_KEY="far-secret-1",
    )
    assert bundle.stat().st_mode & 0o777 == 0o600, result.err
    with tarfile.open(bundle) as archive:
        texts = {one.name: archive.extractfile(one).read().decode() for one in archive.getmembers()}
    whole = "\n".join([*texts.values(), result.out, result.err])
    secrets = (KEY, KEY[::-1], "label-secret-1", "check-secret-1", "file secret 1", "file-secret-2",
               "dotenv-secret-1", "far-secret-1")  # fmt: skip
    for secret in secrets:
        assert secret not in whole, secret
    prefix = "opskit-diagnose"
    inspect = json.loads(texts[f"{prefix}/containers/{made.name}.inspect.json"])
    assert {"API_KEY=***", "MODE=***"} <= set(inspect["Config"]["Env"])
    assert "started with ***" in texts[f"{prefix}/containers/{made.name}.log"]
    assert "MODE: fast" in texts[f"{prefix}/compose/p/1-compose.yml"]
    assert "# note" in texts[f"{prefix}/compose/p/1-compose.yml"]
    assert "[REQUEST] goal=***" in texts[f"{prefix}/logs/opskit.log"]
    assert f"containers/{made.name}.log" in result.out


DOTENV = """\
export API_TOKEN="Zq8xKw32exported"
DB_PASS='Zq8xKw32 with space # no note'
PRIVATE_KEY="-----BEGIN RSA PRIVATE KEY-----
Zq8xKw32LINEAAAABBBB
-----END RSA PRIVATE KEY-----"
CREDS='{
  "client_secret": "Zq8xKw32json"
}'
PASSPHRASE: Zq8xKw32colon
#OLD_PASSWORD=Zq8xKw32commented
"""


def test_a_bundle_holds_no_secret_in_any_surrounding(box: Engine, tmp_path: Path):
    """Of arguments and tokens in Compose files, logs, commands, labels and checks; harmless text stays.

    Each source has a password of its own, so that none is known from another one.
    """
    logged, ran, composed, listed = "Zq8xLg31", "Zq8xRn31", "Zq8xCm31", "Zq8xKw32"
    lines = [text.replace("{t}", token) for token in TOKENS.values() for text in SURROUNDINGS.values()]
    lines += [write(words).replace(PASSWORD, logged) for words in COMMANDS for write in WRITTEN.values()]
    lines += [place % f"{logged}vB" for place in PLACES if "\n" not in place and "-----" not in place]
    lines += [*HARMLESS, "values Zq8xKw32exported Zq8xKw32json Zq8xKw32colon Zq8xKw32commented"]
    content = "\n".join(lines) + "\n"
    (tmp_path / "said").write_text(content)
    commands = [WRITTEN["shell"](words).replace(PASSWORD, ran) for words in COMMANDS]
    made = box.run(
        f"cat /said; sleep 1000; true --requirepass {ran}",
        environment={"START": f"mysql -uroot -p{ran}"},
        labels={f"run.{number}": command for number, command in enumerate(commands)},
        healthcheck=check(f"echo 'PGPASSWORD={ran} psql; redis-cli -a {ran} ping'"),
        volumes={str(tmp_path / "said"): {"bind": "/said", "mode": "ro"}},
    )
    until(lambda: health(made) == "healthy" and lines[-1].encode() in made.logs())
    services = {
        f"s{number}": {"image": "x", "command": [word.replace(PASSWORD, composed) for word in words]}
        for number, words in enumerate(COMMANDS)
    }
    comments = "".join(f"# once {token}\n" for token in TOKENS.values())
    (tmp_path / "compose.yml").write_text(comments + yaml.safe_dump({"services": services}))
    (tmp_path / ".env").write_text(DOTENV)
    state = tmp_path / "state" / "opskit"
    state.mkdir(parents=True)
    (state / "opskit.log").write_text(content)
    config = configured(tmp_path, made.name, compose={"p": [str(tmp_path / "compose.yml")]})
    bundle = tmp_path / "b.tar.gz"
    wanted = ("containers", "system", "--lines", "5000", "--config", str(config), "--bundle", str(bundle))
    result = diagnose(box, tmp_path, *wanted)
    with tarfile.open(bundle) as archive:
        texts = {one.name: archive.extractfile(one).read().decode() for one in archive.getmembers()}
    secrets = [logged, ran, composed, listed, *(token[len(token) // 2 :][:12] for token in TOKENS.values())]
    for name, text in {**texts, "stdout": result.out, "stderr": result.err}.items():
        leaked = {line[:200] for line in text.splitlines() for secret in secrets if secret in line}
        assert not leaked, name
    log = texts["opskit-diagnose/logs/opskit.log"].splitlines()
    assert [line for text in HARMLESS for line in text.splitlines() if line not in log] == []
    assert "redis-cli -a *** ping" in texts[f"opskit-diagnose/containers/{made.name}.inspect.json"]
    kept = yaml.safe_load(texts["opskit-diagnose/compose/p/1-compose.yml"])
    assert kept["services"].keys() == services.keys()


def test_a_long_container_log_is_cut_and_says_so(box: Engine, tmp_path: Path):
    """At most 1 MiB of each, the newest lines."""
    made = box.run(
        "i=0; while [ $i -lt 30000 ]; do echo line $i 01234567890123456789012345678901; i=$((i+1)); done"
    )
    made.wait()
    config = configured(tmp_path, made.name)
    bundle = tmp_path / "b.tar.gz"
    result = diagnose(box, tmp_path, "containers", "--json", "--config", str(config), "--bundle", str(bundle))
    members = {one["name"]: one for one in result.document["bundle"]["members"]}
    log = members[f"containers/{made.name}.log"]
    assert log["size_bytes"] <= 1024 * 1024
    assert "last" in log["note"]
    with tarfile.open(bundle) as archive:
        text = archive.extractfile(f"opskit-diagnose/containers/{made.name}.log").read().decode()
    assert "line 29999 " in text.splitlines()[-1]
