"""Archives of what a stack cannot be rebuilt without, and their safe return."""
