"""opskit: diagnostics, healing and honest failover for a local multi-agent LLM stack."""

__version__ = "0.1.0"
