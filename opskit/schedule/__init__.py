"""Running opskit every five minutes, from launchd or systemd."""
