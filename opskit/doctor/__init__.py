"""The patient as a whole: causes, not symptoms."""
