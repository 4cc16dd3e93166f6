"""Quality of generated code: what it says of itself, and what it may do to a machine."""
