"""The fuller view for a person: tables of everything, and a bundle of it for a bug report."""
