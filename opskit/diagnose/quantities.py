"""Amounts as a person reads them. Pure."""

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def size(size_bytes: float | None) -> str:
    """`1.5 GiB`; `?` for what is not told."""
    if size_bytes is None:
        return "?"
    value, unit = float(size_bytes), 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.0f} {_UNITS[unit]}" if unit == 0 or value >= 100 else f"{value:.1f} {_UNITS[unit]}"


def share(percent: float | None) -> str:
    return "?" if percent is None else f"{percent:.0f} %"


def seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.3f} s"


def age(value_s: float | None) -> str:
    """`3 d 4 h`, `2 min`; empty for never."""
    if value_s is None:
        return ""
    value = max(0, int(value_s))
    days, hours, minutes = value // 86_400, value % 86_400 // 3600, value % 3600 // 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{value} s"
