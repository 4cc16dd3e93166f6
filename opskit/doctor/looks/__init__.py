"""The looks of an examination: each is a check of its own, with a deadline, and leaves facts on the board."""
