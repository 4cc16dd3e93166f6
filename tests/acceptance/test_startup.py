"""Start-up stays lean: the light paths import nothing heavy."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_SHOW = (
    "import sys\n"
    "from opskit.cli.main import status\n"
    "status({arguments!r})\n"
    "heavy = {{'pydantic', 'httpx', 'aiohttp', 'docker', 'psutil', 'yaml', 'rich', 'asyncio'}}\n"
    "print('HEAVY', sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
)


@pytest.mark.parametrize("arguments", [["--version"], ["--help"]])
def test_help_and_version_import_nothing_heavy(arguments: list[str]) -> None:
    """No pydantic, httpx, docker, psutil, rich or asyncio on the path of --version and --help."""
    done = subprocess.run(
        [sys.executable, "-c", _SHOW.format(arguments=arguments)], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    assert "HEAVY []" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "spared"),
    [
        (["probe", "--json"], {"docker", "pydantic", "aiohttp", "rich", "click"}),
        (["run", "--local", "--json", "hi"], {"docker", "pydantic", "aiohttp", "rich", "click"}),
        (["recover", "--dry-run", "--json"], {"docker", "pydantic", "aiohttp", "rich", "click"}),
        (["verify", "--list", "stack", "--json"], {"pydantic", "aiohttp", "rich", "click"}),
        (["run", "--local", "--method", "react", "--json", "hi"], {"docker", "pydantic", "rich", "click"}),
    ],
)
def test_a_command_with_a_configuration_imports_only_what_it_uses(
    tmp_path: Path, arguments: list[str], spared: set[str]
) -> None:
    """What serves other commands costs this one nothing; also what httpx would import for its own."""
    (tmp_path / "opskit.yaml").write_text("router: {max_fallbacks: 1}\n")
    code = (
        f"import sys\nfrom opskit.cli.main import status\nstatus({arguments!r})\n"
        f"print('HEAVY', sorted({spared!r} & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=tmp_path
    )
    assert "HEAVY []" in done.stderr


def test_a_raw_search_begins_without_the_command_line_library(tmp_path: Path) -> None:
    """Where ripgrep is installed, `logs FILE --raw` searches before Typer would be imported."""
    if shutil.which("rg") is None:
        pytest.skip("ripgrep is not installed")
    log = tmp_path / "a.log"
    log.write_text("x [LLM_CALL] y\nplain\n")
    code = (
        "import sys\nfrom opskit.cli.main import status\n"
        f"assert status(['logs', {str(log)!r}, '--raw', '--tag', 'LLM_*']) == 0\n"
        "print('typer' in sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr.strip()) == ("x [LLM_CALL] y\n", "False")


@pytest.mark.parametrize(
    "command",
    [
        ["probe"],
        ["run"],
        ["verify"],
        ["status"],
        ["pause"],
        ["resume"],
        ["doctor"],
        ["drill"],
        ["explain"],
        ["quality"],
        ["diagnose"],
        ["watch"],
        ["backup", "create"],
        ["backup", "list"],
        ["backup", "verify"],
        ["backup", "restore"],
        ["models", "list"],
        ["models", "loaded"],
        ["models", "test"],
        ["models", "route"],
        ["logs", "show"],
        ["logs", "stats"],
        ["logs", "request"],
        ["schedule", "install"],
        ["schedule", "remove"],
        ["schedule", "status"],
        ["schedule", "run-now"],
        ["sandbox", "up"],
        ["sandbox", "faults"],
        ["recover", "levels"],
        ["recover", "model"],
        ["recover", "full"],
        ["config", "show"],
        ["config", "init"],
        ["config", "check"],
    ],
    ids=" ".join,
)
def test_every_command_takes_the_shared_options(command: list[str]) -> None:
    """--json, --config and --debug are there on every command."""
    done = subprocess.run(
        [sys.executable, "-m", "opskit", *command, "--help"], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    assert all(option in done.stdout for option in ("--json", "--config", "--debug"))
