"""What the arguments of a process behind a model tell of how it was loaded."""

import psutil
import pytest

from opskit.facts.runner import RunnerProcess
from opskit.system.process import Process

COMMAND = ("/lib/ollama/llama-server", "--model", "/blobs/sha256-a", "--port", "39193", "-np", "1")
CORES = str(psutil.cpu_count())


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (("-b", "512", "-ub", "512"), {}),
        (("-b", "512", "-ub", "512", "-t", "97"), {"num_thread": 97}),
        (("-b", "64", "-ub", "64"), {"num_batch": 64}),
        (("-t", CORES), {}),
        (("-t", "many"), {}),
        ((), {}),
    ],
)
def test_the_options_of_a_load_are_read(arguments: tuple[str, ...], options: dict[str, int]):
    """Ollama writes them for its runner, and shows them nowhere; all cores and 512 are nobody's wish."""
    process = Process(7, 1, "llama-server", (*COMMAND, *arguments), "u", "sleeping", 0.0, 0.0, 0)
    runner = RunnerProcess(process=process, port=39193, weights="/blobs/sha256-a")
    assert dict(runner.load_options) == options
