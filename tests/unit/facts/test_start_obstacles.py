"""What a container mounts and is not there."""

from pathlib import Path

import pytest

from opskit.facts.start_obstacles import absent_paths


def test_what_is_there_is_no_obstacle(tmp_path: Path) -> None:
    """Nor is it under the name that Docker Desktop gives it."""
    assert absent_paths([str(tmp_path), f"/host_mnt{tmp_path}", str(tmp_path / "gone")], "linux") == [
        str(tmp_path / "gone")
    ]


@pytest.mark.parametrize("path", ["/run/host-services/ssh-auth.sock", "/var/run/docker.sock.of-the-vm"])
def test_what_only_the_virtual_machine_of_a_mac_has_is_no_obstacle(path: str) -> None:
    """Its containers mount sockets and folders that the Mac itself lacks."""
    assert absent_paths([path], "darwin") == []


@pytest.mark.parametrize("path", ["/Volumes/models-of-nobody", "/host_mnt/Users/nobody-at-all/data"])
def test_a_disk_of_a_mac_that_is_not_mounted_is_one(path: str) -> None:
    """Docker would make an empty folder in its place."""
    assert absent_paths([path], "darwin") == [path.removeprefix("/host_mnt")]
