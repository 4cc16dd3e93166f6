"""What checks want of Docker beyond containers and their logs: the daemon, networks, volumes, images."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from opskit.errors import OpskitError
from opskit.system.docker import Docker
from opskit.system.docker_records import DockerEvent, happening

_LISTS = {"network": "/networks", "volume": "/volumes", "image": "/images/json"}
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

    async def all_of(self, kind: str) -> list[Mapping[str, Any]]:
        """All networks, volumes or images, as Docker lists them; a network without its members."""
        found = await self._json(_LISTS[kind], {})
        with self._translated():
            return [dict(one) for one in (found["Volumes"] or () if kind == "volume" else found or ())]

    async def stats(self, identifier: str) -> Mapping[str, Any]:
        """What a container uses just now. Docker samples twice for it, which takes a second or two."""
        found: Mapping[str, Any] = await self._json(
            f"/containers/{quote(identifier, safe='')}/stats", {"stream": "false"}
        )
        return found

    async def all_past_events(
        self, since: datetime, until: datetime, *, kind: str | None = None
    ) -> list[DockerEvent]:
        """What happened to everything, or to one kind (`container`, `network`, ...), on the daemon's clock.

        The daemon keeps its last 256 events of all kinds together: as many as that may not reach back to
        `since`. Health checks fill them, with three events each.
        """
        return await self._events(since, until, {} if kind is None else {"type": [kind]})

    async def _events(
        self, since: datetime, until: datetime, wanted: Mapping[str, list[str]]
    ) -> list[DockerEvent]:
        asked = {
            "filters": json.dumps(wanted),
            "since": f"{since.timestamp():.6f}",
            "until": f"{until.timestamp():.6f}",
        }
        async with self, self._deadline(), self._open("/events", asked) as response:
            with self._translated():
                lines = (await response.content.read()).splitlines()
                return [happening(json.loads(line)) for line in lines if line.strip()]

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
