"""What codes, statuses, faults and pasted error texts mean, and what to do about them."""
