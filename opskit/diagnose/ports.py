"""Who holds the ports of the stack on this machine (SPEC C1, C2)."""

import asyncio
from typing import Any

from opskit.config.schema import AgentConfig, Config, NodeConfig
from opskit.diagnose.area import Part, TableSection
from opskit.diagnose.checked_values import seen
from opskit.facts.survey import Survey
from opskit.result import Finding, Status
from opskit.system.host import is_loopback
from opskit.system.network import endpoint

#: The ports of SPEC C1, B7 and D7, whoever is configured.
USUAL = {
    8003: "starcoder-chat",
    8010: "victoria",
    8011: "veronica",
    9001: "generator-agent",
    9002: "reviewer-agent",
    11434: "ollama",
    11435: "mlx",
}


def expected(config: Config) -> dict[int, str]:
    """Every port that belongs to the stack on this machine, and whose it is."""
    members: tuple[NodeConfig | AgentConfig, ...] = (*config.nodes, *config.agents)
    found: dict[int, list[str]] = {port: [name] for port, name in USUAL.items()}
    moved = {member.name for member in members if member.explicit}
    for port, name in USUAL.items():
        if name in moved:
            found[port] = []
    for member in members:
        host_is_here = is_loopback(member.url) or "host.docker.internal" in member.url
        if host_is_here and member.name not in found.setdefault(endpoint(member.url)[1], []):
            found[endpoint(member.url)[1]].append(member.name)
    return {port: ", ".join(names) or f"{USUAL[port]}, usually" for port, names in sorted(found.items())}


async def ports(around: Survey) -> Part:
    """One reading of the socket table; the owner of each port by process, unit or container."""
    wanted = expected(around.config)
    looked = await asyncio.gather(*(seen("port", around, port=port) for port in wanted))
    rows: list[tuple[str, ...]] = []
    data: list[dict[str, Any]] = []
    findings: list[Finding] = []
    for (port, whose), one in zip(wanted.items(), looked, strict=True):
        values = one.values
        if values is None:
            findings.append(one.finding)
            rows.append((str(port), whose, "?", one.finding.detail, ""))
            data.append({"port": port, "whose": whose, "listening": None})
            continue
        listening = bool(values["listening"])
        owner = (values["owner"] or "not told to this user") if listening else ""
        addresses = ", ".join(values["addresses"])
        rows.append((str(port), whose, "held" if listening else "free", str(owner), addresses))
        data.append(
            {
                "port": port,
                "whose": whose,
                "listening": listening,
                **{
                    key: values.get(key)
                    for key in ("owner", "pid", "process", "command", "unit", "container")
                },
                "addresses": list(values["addresses"]),
            }
        )
        if listening and values.get("public") and whose in ("ollama", "mlx"):
            detail = f"port {port} is open to other machines ({addresses}); it asks nobody for a key"
            findings.append(
                Finding(
                    "system",
                    whose,
                    Status.WARN,
                    "public",
                    detail,
                    None,
                    "bind it to 127.0.0.1, or close it in the firewall",
                )
            )
    columns = ("port", "whose", "state", "held by", "addresses")
    return Part(data, (TableSection("ports", columns, tuple(rows)),), tuple(findings))
