"""Victoria: an agent on local models."""
