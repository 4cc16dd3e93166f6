"""Simulated model servers and agents on loopback, with faults that can be switched on and off."""
