"""`opskit recover levels`: are Agent, Enhanced and Initiative on?"""

from typing import TYPE_CHECKING, Annotated

import typer

from opskit.cli import context, render
from opskit.cli.options import ConfigOption, DebugOption, JsonOption

if TYPE_CHECKING:
    from opskit.recovery.levels import Levels


def levels(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Show the commands that would be run; change nothing.")
    ] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Check Victoria's three levels; when one is off, restart her container once and wait until it is on."""
    del debug  # read by main
    found = context.run(_levels(config, dry=dry_run))
    if json:
        render.document(found.as_json())
    else:
        from opskit.cli import recover_view
        from opskit.recovery.levels import rows

        if found.now is not None:
            render.table(("level", "before", "now"), rows(found))
        recover_view.run(found.run, as_json=False, detailed=False, absent=True)
    raise typer.Exit(int(found.exit))


async def _levels(path: str | None, *, dry: bool) -> "Levels":
    import os
    import sys

    from opskit.config.load import ensure_state_dir
    from opskit.recovery.levels import levels as check

    loaded = context.load_config(path)
    folder = ensure_state_dir(loaded.state_dir)
    return await check(loaded, os.environ, folder, dry=dry, platform=sys.platform, note=render.note)
