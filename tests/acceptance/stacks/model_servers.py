"""mlx_lm.server and llama.cpp's server, real ones."""

import threading
from collections.abc import Iterator

import httpx

from tests.acceptance.stacks.scene import Scene
from tests.acceptance.stacks.stack import broken, seems
from tests.parts.raw_server import free_port
from tests.parts.real_llamacpp import RealLlamaCpp
from tests.parts.real_mlx import RealMlx


def mlx(scene: Scene) -> RealMlx:
    """A server of this scene's own; MLX_API_URL leads to it."""
    server = RealMlx.start(scene.parts["mlx_model"], scene.folder("mlx"))
    scene.closing.enter_context(server)
    scene.env["MLX_API_URL"] = server.url
    return server


def llamacpp(scene: Scene, *options: str, **about: str) -> RealLlamaCpp:
    """A server of this scene's own, configured as the node `tiny`."""
    server = RealLlamaCpp.start(scene.parts["gguf_model"], scene.folder("llamacpp"), options=options)
    scene.closing.enter_context(server)
    scene.node("tiny", server.url, "llamacpp", **about)
    return server


@broken("node-wedged:mlx", needs=("mlx_model",))
def worker_thread_died(scene: Scene) -> Iterator[None]:
    """The generation thread of mlx_lm.server is dead; its health page and list of models are green."""
    mlx(scene).break_worker()
    yield


@broken("node-down:mlx", needs=("real_mlx",), also=("address-wrong:mlx",))
def started_on_its_default_port(scene: Scene) -> Iterator[None]:
    """mlx_lm.server was started without --port, the configuration says another one."""
    scene.node("mlx", f"http://localhost:{free_port()}", "mlx")
    yield


@broken("node-unauthorised:tiny", needs=("gguf_model",))
def key_of_last_month(scene: Scene) -> Iterator[None]:
    """The key was changed on the server, the variable has the old one."""
    llamacpp(scene, "--api-key", "correct-horse", api_key="${TINY_KEY}")
    scene.env["TINY_KEY"] = "battery-staple"
    yield


@broken("process-stopped:tiny", needs=("gguf_model",))
def llamacpp_stopped(scene: Scene) -> Iterator[None]:
    """A debugger left the process of llama-server stopped."""
    llamacpp(scene).freeze()
    yield


@broken("address-wrong:tiny", needs=("real_llamacpp",))
def address_of_the_chat(scene: Scene) -> Iterator[None]:
    """The address of the node is that of one endpoint: /v1/chat/completions."""
    scene.node("tiny", f"{scene.parts['real_llamacpp'].url}/v1/chat/completions", "openai")
    yield


@broken("model-missing", needs=("real_llamacpp",))
def model_of_another_server(scene: Scene) -> Iterator[None]:
    """The node's default model is not the one that llama-server holds."""
    url = scene.parts["real_llamacpp"].url
    scene.node("tiny", url, "llamacpp", default_model="qwen2.5-coder-32b-instruct")
    yield


@seems(needs=("real_mlx",))
def cache_folder_missing(scene: Scene) -> Iterator[None]:
    """mlx_lm.server has an empty Hugging Face cache, and serves its own model all the same."""
    scene.env["MLX_API_URL"] = scene.parts["real_mlx"].url
    yield


@seems(needs=("gguf_model",))
def all_slots_taken(scene: Scene) -> Iterator[None]:
    """The only slot of llama-server is taken by a long answer."""
    server = llamacpp(scene, "--slots", "1", "--context", "2048")
    body = {"prompt": "Once upon a time", "n_predict": 1500, "stream": True, "ignore_eos": True}

    def read() -> None:
        try:
            with httpx.stream("POST", f"{server.url}/completion", json=body, timeout=60) as answer:
                for _ in answer.iter_bytes():
                    begun.set()
        except httpx.HTTPError:
            begun.set()

    begun = threading.Event()
    threading.Thread(target=read, daemon=True).start()
    begun.wait(20)
    yield


@seems()
def still_loading(scene: Scene) -> Iterator[None]:
    """The MLX server answers 503 while it loads its model."""
    scene.sandbox("mlx=loading-503", nodes=("mlx",))
    yield


@broken("mlx-idle")
def mlx_switched_off_by_a_variable(scene: Scene) -> Iterator[None]:
    """USE_MLX_FALLBACK=false was set in an old incident: all requests go to Ollama since."""
    scene.sandbox(nodes=("mlx", "ollama"))
    scene.env["USE_MLX_FALLBACK"] = "false"
    scene.log_calls(*[{"node": "ollama", "model": "phi3.5:3.8b"}] * 6)
    yield
