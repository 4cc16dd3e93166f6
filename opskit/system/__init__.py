"""The machine as it is: no policy."""
