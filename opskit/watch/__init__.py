"""What goes on just now: nodes, requests, errors and the machine, on an interval."""
