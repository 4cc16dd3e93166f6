"""Tests of this folder wait for nothing: they run on virtual time."""

from tests.parts.virtual_time import VirtualLoop


def pytest_asyncio_loop_factories(config, item):
    return {"virtual": VirtualLoop}
