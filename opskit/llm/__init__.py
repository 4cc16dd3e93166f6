"""Getting a good answer: catalog, fit, faults, verdicts, health, router."""
