"""Running opskit every few minutes, from launchd or systemd; `status.status` is what other commands ask."""
