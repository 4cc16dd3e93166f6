"""Pure functions from evidence to causes, one module for each area."""
