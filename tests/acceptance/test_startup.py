"""Start-up stays lean: the light paths import nothing heavy."""

import subprocess
import sys

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


def test_docker_is_not_imported_by_a_probe() -> None:
    """A probe does without the Docker client."""
    code = (
        "import sys\nfrom opskit.cli.main import status\nstatus(['probe', '--json'])\n"
        "print('docker' in sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr.strip().endswith("False")
