"""Whether the containers of a Compose project were made of the files that are there now. Reads links."""

import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from opskit.facts.container import FOLDER, Container, compose_files_of, real_files
from opskit.records import Record
from opskit.system.docker_records import ListedContainer
from opskit.text import listing


class MovedProject(Record):
    """A project whose containers are there under another name than its files give it now.

    That is the name of the `folder` in which it was before, or, where that is empty, the one that it was
    started with.
    """

    name: str
    folder: str
    files: tuple[Path, ...]

    @property
    def state(self) -> str:
        return "moved" if self.folder else "other name"

    @property
    def detail(self) -> str:
        why = f", whose folder {self.folder} is gone: started here" if self.folder else ": without that name"
        return (
            f"its containers belong to Compose project {self.name}{why} "
            "it would be a second project, with new and empty volumes"
        )

    @property
    def remedy(self) -> str:
        return f"write `COMPOSE_PROJECT_NAME={self.name}` into {self.files[0].parent / '.env'}: it keeps both"


def moved_project(
    listed: Iterable[ListedContainer], services: Collection[str], files: Sequence[Path]
) -> MovedProject | None:
    """Return under which name a project without a container runs: by its own files, or by the files
    of a folder that is gone.
    """
    names = {path.name for path in files}
    for container in listed:
        folder, made_of = container.labels.get(FOLDER), compose_files_of(container.labels)
        if not container.project or container.service not in services:
            continue
        if real_files(made_of) == real_files(files):
            return MovedProject(container.project, "", tuple(files))
        if folder and not Path(folder).is_dir() and names.intersection(path.name for path in made_of):
            return MovedProject(container.project, folder, tuple(files))
    return None


def other_folder(containers: Iterable[Container], files: Sequence[Path]) -> str | None:
    """Return the folder of another project that bears the same name; None when the containers are this one's.

    A folder that is no longer there is where this project was before it was moved.
    """
    here = os.path.realpath(files[0].parent)
    folders = (container.folder for container in containers if container.folder)
    return next(
        (folder for folder in folders if Path(folder).is_dir() and os.path.realpath(folder) != here), None
    )


def other_files(containers: Iterable[Container], files: Sequence[Path]) -> str:
    """Say of what files the containers were made where none was made of these; empty where they fit.

    Files that are gone were renamed, or moved with their project.
    """
    here = real_files(files)
    made_of = [
        {os.path.realpath(path): None for path in container.compose_files}
        for container in containers
        if container.compose_files and all(path.is_file() for path in container.compose_files)
    ]
    if not made_of or any(paths.keys() == here for paths in made_of):
        return ""
    return f"its project was started from {listing(made_of[0])}, not from {listing([*map(str, files)])}"
