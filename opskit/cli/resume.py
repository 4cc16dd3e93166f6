"""`opskit resume`: recovery takes care again of what was paused."""

from typing import Annotated

import typer

from opskit.cli import context
from opskit.cli.options import ConfigOption, DebugOption, JsonOption


def resume(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[TARGET]",
            help="What was paused; everything that was when none is named.",
            show_default=False,
        ),
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """End a pause, or all of them. What was not paused stays as it is."""
    del debug  # read by main
    import time

    from opskit.cli import pause_view
    from opskit.config.load import ensure_state_dir
    from opskit.recovery.pausing import resumed

    loaded = context.load_config(config)
    change = resumed(loaded, ensure_state_dir(loaded.state_dir), target, time.time())
    pause_view.show("resume", change, as_json=json)
