"""Backups as whole processes: many small files, and one large log."""

import random
import shutil
import sys
import tempfile
from pathlib import Path

from tests.bench.measure import Figure, Process, process
from tests.parts.command import environment

FILES, LOG_BYTES = 11_000, 1024**3
_WORDS = [str(number * 7919 % 100_003) for number in range(5000)]


def figures() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="opskit-backups-") as folder:
        many, large = Path(folder, "many"), Path(folder, "large")
        _write_files(many)
        create = _backup(many, "create")
        shutil.rmtree(many / "results")
        restore = _backup(many, "restore", "latest", "--yes")
        for path in many.glob("results/*/*"):
            path.write_text("spoiled")
        replace = _backup(many, "restore", "latest", "--yes")
        _write_log(large)
        log = _backup(large, "create")
    return [
        Figure(f"`backup create`, {FILES:,} files", create.wall_s, "s", "", f"{create.peak_mib:.0f} MiB"),
        Figure("`backup restore` of them", restore.wall_s, "s", "<= 8", f"{restore.peak_mib:.0f} MiB"),
        Figure("the same where each is replaced and kept", replace.wall_s, "s"),
        Figure("`backup create`, a log of 1 GB", log.wall_s, "s", "", f"{log.peak_mib:.0f} MiB"),
    ]


def _backup(home: Path, *arguments: str) -> Process:
    config = home / "opskit.yaml"
    config.write_text(f"backup: {{root: {home}}}\n")
    command = [sys.executable, "-m", "opskit", "backup", *arguments, "--config", str(config)]
    done = process(command, environment(home))
    if done.status != 0:
        raise SystemExit(f"`{' '.join(command)}` ended with {done.status}")
    return done


def _write_files(home: Path) -> None:
    chance = random.Random(1)
    for number in range(FILES):
        path = home / "results" / str(number // 100) / f"{number}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(" ".join(chance.choices(_WORDS, k=200)))


def _write_log(home: Path) -> None:
    chance = random.Random(2)
    lines = "\n".join(f"2026-11-21 line {' '.join(chance.choices(_WORDS, k=8))}" for _ in range(60_000))
    (home / "logs").mkdir(parents=True)
    with (home / "logs" / "big.log").open("w") as file:
        for number in range(LOG_BYTES // len(lines)):
            file.write(f"{number} {lines}")
