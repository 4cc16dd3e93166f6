"""One module per wire protocol."""

import sys
from typing import Any

_modules: dict[str, Any] = sys.modules
# The command line of httpx draws with rich, which doubles the time of its import; nobody here calls it.
_modules.setdefault("httpx._main", None)
