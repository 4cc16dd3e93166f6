"""Tests of this folder do no I/O and run on virtual time."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from tests.parts.rig import Rig
from tests.parts.virtual_time import VirtualLoop


def pytest_asyncio_loop_factories(config, item):
    return {"virtual": VirtualLoop}


@pytest.fixture
async def rig() -> AsyncIterator[Callable[..., Rig]]:
    """Builds routers over scripted nodes; in the end they are closed, and not one task may be left."""
    built: list[Rig] = []

    def build(*args, **kwargs) -> Rig:
        built.append(Rig(*args, **kwargs))
        return built[-1]

    yield build
    for one in built:
        await one.aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}
