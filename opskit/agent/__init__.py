"""Victoria, the agent: her tools, and what they may do."""
