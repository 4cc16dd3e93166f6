"""Ways to work on a goal, one class each, under the same limits."""
