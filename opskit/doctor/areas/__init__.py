"""What doctor examines and knows, one module for each area: its checks, and causes computed from facts."""
