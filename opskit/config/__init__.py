"""Configuration: one frozen tree, loaded once and passed on."""
