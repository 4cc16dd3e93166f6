"""Figures, measured as ratios in one run: `python -m tests.bench`. Nothing here is asserted."""
