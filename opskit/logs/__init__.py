"""Logs of many sources: read, follow, select, count."""
