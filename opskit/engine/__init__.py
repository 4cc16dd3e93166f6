"""Answering goals: the request of SPEC A and D seen from outside."""
