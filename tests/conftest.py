"""Fixtures for all tests, and the switch that turns a skip into a failure where nothing may hide."""

import os
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import settings

# No test is judged by its speed (STYLE 17): a busy machine would make a property fail.
settings.register_profile("opskit", deadline=None)
settings.load_profile("opskit")

pytest_plugins = ["tests.parts.fixtures"]


#: The tests that were collected and are not run, such as those that `-k` leaves out.
DESELECTED = pytest.StashKey[set[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[DESELECTED] = set()


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    if items:
        items[0].config.stash[DESELECTED] |= {item.nodeid for item in items}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skip", action="store_true", help="A skipped test fails (STYLE 16).")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()
    if report.skipped and item.config.getoption("--no-skip") and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be: {reason}"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No setting of the person who runs the tests reaches them, and none of their files is touched."""
    for name in list(os.environ):
        if name.startswith(("OLLAMA_", "MLX_", "VICTORIA_", "VERONICA_", "OPSKIT_", "USE_MLX")):
            monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
