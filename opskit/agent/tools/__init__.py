"""What the agent can do: read files, list folders, run commands here and on other hosts, and finish."""
