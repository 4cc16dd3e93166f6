"""What integration tests share beyond `tests.parts.fixtures`: the real Docker daemon."""

from tests.parts.docker import box, cutter, docker_engine

__all__ = ["box", "cutter", "docker_engine"]
