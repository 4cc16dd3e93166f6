"""A whole simulated stack on loopback: Ollama, MLX, Victoria and Veronica."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Self

from opskit.records import replace
from opskit.sandbox.faults import FaultSpec
from opskit.sandbox.faults import SandboxFaultKind as K
from opskit.sandbox.generation import Reply
from opskit.sandbox.mlx import SimulatedMlx
from opskit.sandbox.ollama import SimModel, SimulatedOllama
from opskit.sandbox.server import SimulatedServer
from opskit.sandbox.victoria import SimulatedAgent

OLLAMA_MODELS = (
    SimModel("phi3.5:3.8b", resident=True, load_s=0.05, family="phi3"),
    SimModel(
        "qwen2.5-coder:7b",
        4_700_000_000,
        load_s=0.2,
        family="qwen2",
        parameter_size="7.6B",
        context_length=32_768,
    ),
    SimModel("tinyllama:1.1b-chat", 640_000_000, load_s=0.05, parameter_size="1.1B", context_length=2048),
)
MLX_DEFAULT = "mlx-community/Phi-3.5-mini-instruct-4bit"
MLX_SIZES = {MLX_DEFAULT: 2_150_000_000, "mlx-community/Qwen2.5-Coder-32B-Instruct-4bit": 18_400_000_000}
ADDED_BYTES = 20_000_000_000
KEEP_ALIVE_S = 86_400.0
"""A stage may stand for hours with nobody talking to it, and shall not empty itself meanwhile."""

_NEEDS_A_LOAD = frozenset({K.SLOW_LOAD, K.OOM, K.NOT_INSTALLED})


class Stage:
    """Starts the four servers together and stops them together; an async context manager."""

    def __init__(
        self,
        faults: Iterable[FaultSpec] = (),
        *,
        ollama_models: Sequence[SimModel] = OLLAMA_MODELS,
        reply: Reply | None = None,
        num_parallel: int = 1,
        token_s: float = 0.0,
        host: str = "127.0.0.1",
        ports: Mapping[str, int] | None = None,
    ) -> None:
        """Build the stack with its faults; nothing listens before entry.

        A model that only a fault names is added to its server: to Ollama with 20 GB and resident, unless
        the fault is one of loading, so that it is met at once. `num_parallel` is for each model of Ollama;
        `ports` are fixed ports by node name. Raises ValueError for an unknown node and for a fault that the
        node cannot show.
        """
        specs = list(faults)
        at = dict(ports or {})
        listed = dict.fromkeys([*MLX_SIZES, *(model for node, model, _ in specs if node == "mlx" and model)])
        self.ollama = SimulatedOllama(
            models=_with_named(ollama_models, specs),
            reply=reply,
            num_parallel=num_parallel,
            token_s=token_s,
            keep_alive_s=KEEP_ALIVE_S,
            host=host,
            port=at.pop("ollama", 0),
        )
        self.mlx = SimulatedMlx(
            listed=list(listed),
            default_model=MLX_DEFAULT,
            sizes=MLX_SIZES,
            reply=reply,
            load_s=0.2,
            token_s=token_s,
            host=host,
            port=at.pop("mlx", 0),
        )
        self.victoria = SimulatedAgent("victoria", reply=reply, host=host, port=at.pop("victoria", 0))
        self.veronica = SimulatedAgent("veronica", reply=reply, host=host, port=at.pop("veronica", 0))
        servers: tuple[SimulatedServer, ...] = (self.ollama, self.mlx, self.victoria, self.veronica)
        self.nodes: Mapping[str, SimulatedServer] = {server.name: server for server in servers}
        for node in [*at, *(node for node, _, _ in specs)]:
            if node not in self.nodes:
                raise ValueError(f"unknown node {node!r}; known: {', '.join(self.nodes)}")
        for node, model, fault in specs:
            self.nodes[node].faults.set(model, fault)

    async def __aenter__(self) -> Self:
        """Start all of them; when one cannot start, none is left running."""
        try:
            for node in self.nodes.values():
                await node.start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()

    def environment(self) -> dict[str, str]:
        """Return the variables that point opskit at this stack; known once started."""
        return {
            "OLLAMA_API_URL": self.ollama.url,
            "MLX_API_URL": self.mlx.url,
            "VICTORIA_URL": self.victoria.url,
            "VERONICA_URL": self.veronica.url,
        }

    async def _stop(self) -> None:
        await asyncio.gather(*(node.stop() for node in self.nodes.values()))


def _with_named(models: Sequence[SimModel], specs: Iterable[FaultSpec]) -> list[SimModel]:
    installed = {model.name: model for model in models}
    for node, name, fault in specs:
        if node != "ollama" or name is None:
            continue
        known = installed.get(name) or installed.get(f"{name}:latest")
        if known is None:
            resident = fault.kind not in _NEEDS_A_LOAD
            installed[name] = SimModel(name, ADDED_BYTES, resident=resident, parameter_size="32.8B")
        elif known.size_bytes == ADDED_BYTES and fault.kind in _NEEDS_A_LOAD:
            installed[known.name] = replace(known, resident=False)
    return list(installed.values())
