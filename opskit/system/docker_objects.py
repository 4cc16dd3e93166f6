"""What checks want of Docker beyond containers and their logs: the daemon, networks, volumes, images."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from opskit.errors import OpskitError
from opskit.system.docker import Docker
from opskit.system.docker_records import PROJECT, SERVICE

_KINDS = {"network": "/networks/{}", "volume": "/volumes/{}", "image": "/images/{}/json"}


class DockerObjects(Docker):
    """The same door, with the daemon's own JSON. Questions raise OpskitError DOCKER_001 or DOCKER_003."""

    async def version(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = await self._json("/version", {})
        return found

    async def info(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = await self._json("/info", {})
        return found

    async def named(self, name: str) -> Mapping[str, Any] | None:
        """All that `docker inspect` tells of a container by name or id; None when there is none."""
        return await self._look(f"/containers/{quote(name, safe='')}/json")

    async def found(self, kind: str, name: str) -> Mapping[str, Any] | None:
        """A network, a volume or an image; None when there is none."""
        return await self._look(_KINDS[kind].format(quote(name, safe="")))

    async def of_compose(self, project: str | None, service: str | None) -> list[Mapping[str, Any]]:
        """All that is told of the containers of a compose service, stopped ones too."""
        labels = [f"{PROJECT}={project}"] if project else []
        labels += [f"{SERVICE}={service}"] if service else []
        found = [await self.named(one.id) for one in await self.containers(labels=labels)]
        return [one for one in found if one is not None]

    async def holder_of(self, port: int, container: str | None) -> str | None:
        """The name of the container that is `container`, or that publishes the port; None when unknown."""
        listed = await self._json("/containers/json", {})
        for one in listed:
            ports = {entry.get("PublicPort") for entry in one.get("Ports") or ()}
            if (container is not None and one["Id"] == container) or (container is None and port in ports):
                return str(one["Names"][0]).lstrip("/") if one.get("Names") else str(one["Id"])
        return None

    async def _look(self, path: str) -> Mapping[str, Any] | None:
        try:
            found: Mapping[str, Any] = await self._json(path, {})
        except OpskitError as error:
            if error.code != "DOCKER_002":
                raise
            return None
        return found
