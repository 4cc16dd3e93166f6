"""opskit: diagnostics, healing and honest failover for a local multi-agent LLM stack."""

import sys
from typing import Any

__version__ = "0.1.0"

_modules: dict[str, Any] = sys.modules
# The command line of httpx draws with rich, which doubles the time of its import; nobody here calls it.
_modules.setdefault("httpx._main", None)
