"""The policy over real files: a workspace with what an attacker would put there."""

from pathlib import Path

from opskit.agent.policy.rules import PolicyRules, policy_rules
from opskit.config.load import load
from opskit.records import replace

SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def rules(path: str = SYSTEM_PATH, **patterns: tuple[str, ...]) -> PolicyRules:
    """The shipped rules with those of a person, and programs looked up in `path`."""
    config = load(None, environ={}, cwd=Path("/nowhere"), in_docker=False).config
    policy = replace(config.agent.policy, **patterns)
    return policy_rules(replace(config, agent=replace(config.agent, policy=policy)), {"PATH": path})


def workspace(folder: Path) -> Path:
    """A folder with a log, code, a secret in a folder of its own, and links that lead out and in."""
    (folder / "secrets-of-app").mkdir(parents=True)
    (folder / "secrets-of-app" / ".env").write_text("TOKEN=x\n")
    (folder / "logs").mkdir()
    (folder / "logs" / "app.log").write_text("error: x\n")
    (folder / "app.log").write_text("first\nlast\n")
    (folder / "b.log").write_text("first\n")
    (folder / "id_rsa").write_text("key")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "to-etc").symlink_to("/etc")
    (folder / "to-passwd").symlink_to("/etc/passwd")
    (folder / "to-log").symlink_to("app.log")
    (folder / "notes").symlink_to("id_rsa")
    (folder / "ls").write_text("#!/bin/sh\nid\n")
    (folder / "ls").chmod(0o755)
    return folder
