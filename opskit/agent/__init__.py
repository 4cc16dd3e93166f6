"""Talking to agents and, later, being one."""
