"""Running opskit every five minutes, from launchd or systemd.

`opskit.schedule.status.status` is what other commands ask.
"""
