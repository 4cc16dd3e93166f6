"""Archives of what a stack cannot be rebuilt without, and their safe return."""

from opskit.backup.place import running

__all__ = ["running"]
