"""Ollama: what is wrong with the server, its models, its settings."""

import os
import signal
import threading
from collections.abc import Iterator

import httpx

from opskit.sandbox.ollama import SimModel
from tests.acceptance.stacks.scene import Scene
from tests.acceptance.stacks.stack import broken, seems

LLAMA = SimModel("llama3.2:3b", 2_000_000_000, resident=True)
QWEN = SimModel("qwen3:8b", 5_200_000_000, resident=True)


@broken("node-wedged:ollama")
def accepts_and_never_answers(scene: Scene) -> Iterator[None]:
    """After the laptop woke up the port accepts connections, and no request is ever answered."""
    scene.ollama("ollama=silence")
    yield


@broken("process-stopped:ollama")
def stopped_by_control_z(scene: Scene) -> Iterator[None]:
    """Somebody pressed Control-Z in the terminal of `ollama serve`."""
    server = scene.ollama()
    os.kill(server.process.pid, signal.SIGSTOP)
    yield


@broken("node-failing:ollama")
def crashes_at_each_request(scene: Scene) -> Iterator[None]:
    """The runner dies at every request, the server itself answers."""
    scene.sandbox("ollama:phi3.5:3.8b=crash", nodes=("ollama",))
    yield


@broken("no-model:ollama")
def nothing_pulled_yet(scene: Scene) -> Iterator[None]:
    """Ollama is just installed, no model was pulled."""
    scene.ollama(models=())
    yield


@broken("no-model:ollama")
def only_embeddings(scene: Scene) -> Iterator[None]:
    """The only model makes embeddings and cannot chat."""
    embed = SimModel("nomic-embed-text:latest", 274_000_000, family="nomic-bert", capabilities=("embedding",))
    scene.ollama(models=(embed,))
    yield


@broken("model-unusable:ollama|requests-failing:ollama/qwen3:8b")
def file_broken_by_a_full_disk(scene: Scene) -> Iterator[None]:
    """The weights were cut when the disk was full: each load fails."""
    scene.ollama(models=(LLAMA, QWEN))
    scene.log_calls({"node": "ollama", "model": QWEN.name, "fault": "broken_model_file"})
    yield


@broken("model-unusable:ollama|requests-failing:ollama/qwen3:8b")
def older_than_its_model(scene: Scene) -> Iterator[None]:
    """Ollama does not know the architecture of the model."""
    scene.ollama(models=(LLAMA, QWEN))
    scene.log_calls(*[{"node": "ollama", "model": QWEN.name, "fault": "unknown_architecture"}] * 2)
    yield


@broken("model-unusable:ollama")
def template_of_a_home_made_model(scene: Scene) -> Iterator[None]:
    """A Modelfile of one's own has a template that Ollama cannot execute."""
    scene.sandbox("ollama:phi3.5:3.8b=broken-template", nodes=("ollama",))
    yield


@broken("model-missing")
def model_name_with_a_typo(scene: Scene) -> Iterator[None]:
    """VICTORIA_MODEL names a model that nobody has."""
    scene.ollama(models=(LLAMA,))
    scene.env["VICTORIA_MODEL"] = "lama3.2:3b"
    yield


@broken("model-missing")
def default_model_was_removed(scene: Scene) -> Iterator[None]:
    """The default model of the node was removed with `ollama rm`."""
    server = scene.ollama(models=(QWEN,))
    del scene.env["OLLAMA_API_URL"]
    scene.node("ollama", server.url, default_model="mistral-nemo:12b")
    yield


@broken("model-too-large")
def model_for_another_machine(scene: Scene) -> Iterator[None]:
    """The wanted model has 405 billion parameters, the machine has memory for a tenth of it."""
    scene.ollama(models=(LLAMA, SimModel("llama3.1:405b", 900_000_000_000, parameter_size="405B")))
    scene.env["VICTORIA_MODEL"] = "llama3.1:405b"
    yield


@broken("ollama-keep-alive:ollama")
def unloads_after_each_answer(scene: Scene) -> Iterator[None]:
    """The server was started with OLLAMA_KEEP_ALIVE=0 to save memory: each request loads again."""
    scene.ollama(env={"OLLAMA_KEEP_ALIVE": "0"})
    yield


@broken("ollama-setting-invalid:ollama")
def number_in_words(scene: Scene) -> Iterator[None]:
    """OLLAMA_NUM_PARALLEL is no number: Ollama ignores it with a warning in its log."""
    scene.ollama(env={"OLLAMA_NUM_PARALLEL": "four"})
    yield


@broken("ollama-memory:ollama")
def sixteen_slots_of_a_huge_context(scene: Scene) -> Iterator[None]:
    """16 slots with a context of 262,144 tokens each do not fit in any memory here."""
    scene.ollama(env={"OLLAMA_NUM_PARALLEL": "16", "OLLAMA_CONTEXT_LENGTH": "262144"}, models=(QWEN,))
    yield


@broken("ollama-one-model:ollama")
def two_models_take_turns(scene: Scene) -> Iterator[None]:
    """One model may be loaded, and requests alternate between two: each of them waits for a load."""
    scene.ollama(env={"OLLAMA_MAX_LOADED_MODELS": "1"}, models=(LLAMA, QWEN))
    scene.log_calls(*[{"node": "ollama", "model": name} for name in (LLAMA.name, QWEN.name) * 4])
    yield


@broken("shell-settings-ignored:ollama")
def exported_in_the_wrong_shell(scene: Scene) -> Iterator[None]:
    """OLLAMA_CONTEXT_LENGTH was exported in a shell, the server runs since before without it."""
    scene.ollama()
    scene.env["OLLAMA_CONTEXT_LENGTH"] = "32768"
    yield


@broken("runner-orphaned", "node-down:ollama", needs=("gguf_model",), alone=True)
def server_killed_runner_left(scene: Scene) -> Iterator[None]:
    """The kernel killed `ollama serve`; its runner goes on and holds the memory."""
    server = scene.ollama()
    blob = scene.folder("models/blobs") / f"sha256-{'7' * 64}"
    blob.symlink_to(scene.parts["gguf_model"])
    server.start_runner(blob)
    server.process.kill()
    server.process.wait()
    yield


@broken("process-stopped:ollama", needs=("gguf_model",))
def runner_stopped(scene: Scene) -> Iterator[None]:
    """A memory saver stopped the process of the runner (SIGSTOP); Ollama itself answers."""
    server = scene.ollama("ollama=hang-midstream,after=0")
    server.start_runner(scene.parts["gguf_model"])
    assert server.runner is not None
    os.kill(server.runner, signal.SIGSTOP)
    yield


@broken("node-wedged:ollama|scheduler-hangs:ollama", needs=("gguf_model",))
def scheduler_hangs_runner_idle(scene: Scene) -> Iterator[None]:
    """A client left between the last token and the end: the runner idles, each new request waits for ever."""
    server = scene.ollama("ollama=hang-midstream,after=0")
    server.start_runner(scene.parts["gguf_model"])
    yield


@seems()
def nothing_in_memory(scene: Scene) -> Iterator[None]:
    """Nobody asked for an hour, so nothing is loaded: the next request loads it."""
    scene.ollama(models=(SimModel("gemma3:4b", 3_300_000_000),))
    yield


@seems()
def busy_with_a_long_answer(scene: Scene) -> Iterator[None]:
    """The only slot writes a long answer for somebody else."""
    server = scene.ollama("ollama=slow-token,seconds=0.2,times=1", models=(LLAMA,))
    body = {"model": LLAMA.name, "prompt": "Write a story " * 200, "stream": True}

    def read() -> None:
        try:
            with httpx.stream("POST", f"{server.url}/api/generate", json=body, timeout=30) as answer:
                begun.set()
                for _ in answer.iter_bytes():
                    pass
        except httpx.HTTPError:
            pass

    begun = threading.Event()
    threading.Thread(target=read, daemon=True).start()
    begun.wait(5)
    yield


@seems()
def settings_of_a_careful_person(scene: Scene) -> Iterator[None]:
    """All settings are valid and fit together."""
    settings = {"OLLAMA_KEEP_ALIVE": "30m", "OLLAMA_FLASH_ATTENTION": "1", "OLLAMA_KV_CACHE_TYPE": "q8_0"}
    scene.ollama(env={**settings, "OLLAMA_NUM_PARALLEL": "2", "OLLAMA_MAX_LOADED_MODELS": "1"})
    yield
