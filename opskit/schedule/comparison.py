"""What works in the shell and fails from the scheduler, in sentences that say what to do. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from opskit.schedule.folders import SOUGHT
from opskit.schedule.look import ProcessView, ServerReach, denied_by_privacy

_AGAIN = "`opskit schedule install` computes PATH and variables anew from this shell"


@dataclass(frozen=True, slots=True)
class Difference:
    """`harmful` is a difference that lets the job fail, or work on something else than the shell does."""

    topic: str
    text: str
    remedy: str
    harmful: bool = True


def compare(shell: ProcessView, inside: ProcessView, *, platform: str) -> tuple[Difference, ...]:
    """The differences that matter, what to do first on top. What is broken in both is none."""
    found = (
        *_config(shell, inside),
        *_files(shell, inside, platform),
        *_programs(shell, inside),
        *_docker(shell, inside),
        *_servers(shell, inside, platform),
        *_surroundings(shell, inside),
    )
    return tuple(sorted(found, key=lambda one: not one.harmful))


def _config(shell: ProcessView, inside: ProcessView) -> Iterator[Difference]:
    if inside.config_problem and not shell.config_problem:
        yield Difference("configuration", f"the job cannot use it: {inside.config_problem}", _AGAIN)
    elif shell.config != inside.config:
        yield Difference(
            "configuration",
            f"the job reads {inside.config or 'no file, only defaults'}, this shell {shell.config or 'none'}",
            "`opskit schedule install --config FILE` names the file for the job",
        )
    for name in sorted(set(inside.unset) - set(shell.unset)):
        yield Difference(
            "secrets",
            f"{name} is set in this shell and not in the job",
            "secrets are not written into the schedule: `opskit schedule install` says how to give them",
            harmful=False,
        )


def _files(shell: ProcessView, inside: ProcessView, platform: str) -> Iterator[Difference]:
    for path, here in shell.files.items():
        there = inside.files.get(path, "absent")
        if here != "readable" or there == "readable":
            continue
        if there == "absent":
            yield Difference(
                "files", f"{path} is not there for the job", "use a path that every process sees"
            )
        elif platform == "darwin":
            yield Difference(
                "files",
                f"macOS denies the job {path}",
                "move it out of Documents, Desktop and Downloads, or grant the interpreter Full Disk Access "
                "(System Settings, Privacy & Security)",
            )
        else:
            yield Difference("files", f"the job may not read {path}", f"`ls -l {path}` shows who may")


def _programs(shell: ProcessView, inside: ProcessView) -> Iterator[Difference]:
    for name in SOUGHT:
        here, there = shell.programs.get(name), inside.programs.get(name)
        if here and not there:
            yield Difference(
                "programs", f"the job does not find {name}, which is {here} in this shell", _AGAIN
            )
        elif here and there and here != there:
            yield Difference(
                "programs",
                f"the job runs {there}, this shell {here}",
                f"{_AGAIN}, or remove one",
                harmful=False,
            )


def _docker(shell: ProcessView, inside: ProcessView) -> Iterator[Difference]:
    if inside.docker_problem and not shell.docker_problem:
        where = f" ({inside.docker} instead of {shell.docker})" if inside.docker != shell.docker else ""
        yield Difference(
            "docker", f"Docker answers this shell and not the job{where}: {inside.docker_problem}", _AGAIN
        )
    elif inside.docker != shell.docker:
        yield Difference(
            "docker",
            f"the job asks Docker at {inside.docker or 'no address'}, this shell at {shell.docker or 'none'}",
            _AGAIN,
        )


def _servers(shell: ProcessView, inside: ProcessView, platform: str) -> Iterator[Difference]:
    for name, here in shell.servers.items():
        there = inside.servers.get(name)
        if there is None:
            if not inside.config_problem:
                yield Difference(
                    "servers", f"the job knows no {name}, which is {here.url} in this shell", _AGAIN
                )
        elif there.url != here.url:
            yield Difference("servers", f"{name} is {there.url} for the job and {here.url} here", _AGAIN)
        elif there.problem and not here.problem:
            yield _unreached(name, there, platform)
    for name in inside.servers.keys() - shell.servers.keys():
        yield Difference(
            "servers", f"the job looks after {name} ({inside.servers[name].url}), this shell does not", _AGAIN
        )


def _unreached(name: str, server: ServerReach, platform: str) -> Difference:
    if denied_by_privacy(server, platform):
        return Difference(
            "servers",
            f"macOS keeps the local network from the job: {name} ({server.url}) is reached from this shell",
            "allow the interpreter in System Settings, Privacy & Security, Local Network; where it is not "
            "listed, reach the node through a tunnel on loopback (`ssh -L`)",
        )
    return Difference(
        "servers",
        f"{name} ({server.url}) is reached from this shell and not from the job: {server.problem}",
        "see whether a proxy, a VPN or a firewall belongs to this session only",
    )


def _surroundings(shell: ProcessView, inside: ProcessView) -> Iterator[Difference]:
    if shell.home != inside.home:
        yield Difference(
            "home",
            f"HOME is {inside.home or 'not set'} for the job and {shell.home or 'not set'} here",
            "install the schedule as the user who runs the stack, without sudo",
        )
    if shell.encoding != inside.encoding:
        yield Difference(
            "locale",
            f"the job writes {inside.encoding}, this shell {shell.encoding}",
            "opskit writes UTF-8 in both; programs that it starts may not",
            harmful=False,
        )
