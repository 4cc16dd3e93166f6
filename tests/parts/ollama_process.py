"""An Ollama as a process of its own: its API is simulated, its runner is llama.cpp's real server."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from opskit.records import asdict
from opskit.sandbox.ollama import SimModel
from tests.parts.server_process import POLL_S, START_S, free_port

_ROOT = Path(__file__).parents[2]
_RUNNER = Path(__file__).with_name("llamacpp_server.py")
MODEL = "phi3.5:3.8b"
#: A script that is executed by its first line gives its process its own name.
_SCRIPT = """\
    #!{python}
    import asyncio, json, subprocess, sys
    sys.path.insert(0, {root!r})
    from opskit.sandbox.faults import parse_fault
    from opskit.sandbox.ollama import SimModel
    from opskit.sandbox.stage import Stage

    def say(**news):
        print(json.dumps(news), flush=True)

    async def main():
        loop = asyncio.get_running_loop()
        faults = [parse_fault(text) for text in sys.argv[2:]]
        models = [SimModel(**fields) for fields in json.loads(sys.argv[1])]
        async with Stage(faults, ollama_models=models) as stage:
            say(url=stage.ollama.url)
            while line := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
                output = subprocess.DEVNULL
                child = subprocess.Popen(json.loads(line), stdin=output, stdout=output, stderr=output)
                say(pid=child.pid)

    asyncio.run(main())
    """


@dataclass(kw_only=True)
class OllamaProcess:
    """A running one. `runner` is the process of its runner, which listens on `port`; None without one."""

    process: subprocess.Popen[str]
    url: str
    runner: int | None = None
    port: int = 0

    def start_runner(self, weights: Path) -> None:
        """Start a runner and wait until it has loaded its model."""
        self.port = free_port()
        command = [sys.executable, str(_RUNNER), "--model", str(weights), "--port", str(self.port)]
        self.runner = int(self._say(json.dumps([*command, "--slots", "1", "--context", "2048"]))["pid"])
        deadline = time.monotonic() + START_S
        while True:
            with contextlib.suppress(httpx.HTTPError):
                health = httpx.get(f"http://127.0.0.1:{self.port}/health", timeout=1.0, trust_env=False)
                if health.status_code == 200:
                    return
            if time.monotonic() > deadline:
                raise RuntimeError("the runner did not load its model in time")
            time.sleep(POLL_S)

    def end_runner(self) -> None:
        if self.runner is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.runner, signal.SIGKILL)

    def close(self) -> None:
        self.end_runner()
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()

    def _say(self, line: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.heard()

    def heard(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())  # type: ignore[no-any-return]


@contextlib.contextmanager
def ollama_process(
    folder: Path,
    *faults: str,
    models: Sequence[SimModel] | None = None,
    env: Mapping[str, str] | None = None,
    log: Path | None = None,
) -> Iterator[OllamaProcess]:
    """Start one without a runner, with these faults of the sandbox.

    `models` are those installed, MODEL when absent; `env` is added to the variables of the process. `log` is
    the file behind its standard error.
    """
    script = folder / "ollama"
    script.write_text(textwrap.dedent(_SCRIPT).format(python=sys.executable, root=str(_ROOT)))
    script.chmod(0o755)
    installed = (SimModel(MODEL, resident=True),) if models is None else models
    with contextlib.nullcontext() if log is None else log.open("ab") as errors:
        process = subprocess.Popen(
            [str(script), json.dumps([asdict(model) for model in installed]), *faults],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, **(env or {})},
        )
    server = OllamaProcess(process=process, url="")
    try:
        server.url = str(server.heard()["url"])
        yield server
    finally:
        server.close()
