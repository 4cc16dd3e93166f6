"""The steps of recovery: each looks at one part of the stack and says how it is repaired."""
