"""Victoria, the agent: her loop, her tools, and what they may do."""
