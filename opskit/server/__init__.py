"""Servers: Victoria's HTTP API."""
