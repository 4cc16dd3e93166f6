"""`opskit status`: how recovery stands, and whether it runs at all."""

from typing import TYPE_CHECKING, Annotated

import typer

from opskit.cli import context, render
from opskit.cli.options import ConfigOption, DebugOption, JsonOption

if TYPE_CHECKING:
    from opskit.config.schema import Config
    from opskit.recovery.status import Schedule


def status(
    test_notice: Annotated[
        bool, typer.Option("--test-notice", help="Send a test notice through every channel instead.")
    ] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show how recovery stands: its last run, circuits that are open, repairs, pauses, lost notices.

    Nothing is asked but files; the scheduler only when recovery has not run for long. Exits 0 (fine), 1
    (something is given up, broken or overdue), 3 (it never ran, or could not judge).
    """
    del debug  # read by main
    loaded = context.load_config(config)
    if test_notice:
        _test(loaded, as_json=json)
    import time

    from opskit.cli import status_view
    from opskit.config.load import ensure_state_dir
    from opskit.recovery.overview import overview

    folder = ensure_state_dir(loaded.state_dir)
    found = overview(loaded, folder, time.time(), lambda: _scheduled(loaded))
    status_view.show(found, as_json=json)
    raise typer.Exit(int(found.report.exit))


def _scheduled(config: "Config") -> "Schedule | None":
    import os

    from opskit.schedule.status import recovery_schedule

    return context.run(recovery_schedule(config, os.environ))


def _test(config: "Config", *, as_json: bool) -> None:
    import os
    import sys
    import time

    from opskit.recovery.trial import trial

    report = context.run(trial(config.notices, os.environ, sys.platform, time.time))
    render.report(report, as_json=as_json)
    raise typer.Exit(int(report.exit))
