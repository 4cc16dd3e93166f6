"""`opskit status`: how recovery stands, and whether it runs at all."""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from opskit.cli import context, render
from opskit.cli.options import SharedOptions, shares

if TYPE_CHECKING:
    from opskit.config.schema import Config
    from opskit.recovery.status import Schedule


@shares()
def status(
    shared: SharedOptions,
    test_notice: Annotated[
        bool, typer.Option("--test-notice", help="Send a test notice through every channel instead.")
    ] = False,
) -> None:
    """Show how recovery stands: its last run, circuits that are open, repairs, pauses, lost notices.

    Nothing is asked but files; the scheduler only when recovery has not run for long. Exits 0 (fine), 1
    (something is given up, broken or overdue), 3 (it never ran, or could not judge).
    """
    loaded = shared.load()
    if test_notice:
        from opskit.recovery.notifier import trial

        report = context.run(trial(loaded.notices, os.environ, sys.platform, time.time))
        render.report(report, as_json=shared.json)
        raise typer.Exit(int(report.exit))
    from opskit.cli import status_view
    from opskit.recovery.status import overview

    content = overview(loaded, Path(loaded.state_dir), time.time(), lambda: _schedule(loaded))
    if shared.json:
        render.document(content.as_json())
    else:
        status_view.show(content)
    raise typer.Exit(int(content.report.exit))


def _schedule(config: "Config") -> "Schedule | None":
    from opskit.schedule.status import recovery_schedule

    return context.run(recovery_schedule(config, os.environ))
