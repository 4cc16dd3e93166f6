"""Healing that never storms: check, cause, fix, the same check again, audit."""
