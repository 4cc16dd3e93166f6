"""Checks that return findings."""
