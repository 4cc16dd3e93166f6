"""`python -m opskit.recovery.unload URL MODEL`: free the memory of one model of an Ollama, and wait for it.

What a repair runs in place of `ollama stop MODEL`, whose program may be in a container or on no PATH. A model
that works goes after its requests. Exits 0 when it is gone, 1 when it is still there, 2 for wrong arguments.
"""

import asyncio
import sys

from opskit.providers.base import CallError, Provider
from opskit.providers.http import HttpClient
from opskit.providers.ollama import Ollama

UNLOAD_S = 30.0
_POLL_S = 0.5


async def unload(provider: Provider, model: str) -> None:
    """Ask for it, and wait until it is gone: a busy one goes after its requests. Raises CallError."""
    await provider.unload(model)
    while True:
        if all(resident.name != model for resident in await provider.resident() or ()):
            return
        await asyncio.sleep(_POLL_S)


async def _main(url: str, model: str) -> str:
    """Return why the model is still there; empty when it is gone."""
    http = HttpClient(url)
    try:
        async with asyncio.timeout(UNLOAD_S):
            await unload(Ollama(http), model)
    except TimeoutError:
        return f"{model} is still loaded after {UNLOAD_S:g} s"
    except CallError as error:
        return error.text
    finally:
        await http.aclose()
    return ""


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.stderr.write("usage: python -m opskit.recovery.unload URL MODEL\n")
        sys.exit(2)
    if problem := asyncio.run(_main(*sys.argv[1:])):
        sys.exit(problem)
