"""Stacks that are broken, or only seem to be, each with its true cause known before the doctor looks."""
