"""Does a model fit in memory? Pure arithmetic; the numbers come from the node's list and from the host."""

from collections.abc import Sequence

from opskit.records import Record

GIB = 1024**3


class Fit(Record):
    """`ok` None means that it is unknown (a remote node, or a size that the server does not give)."""

    ok: bool | None
    reason: str
    need_bytes: int | None = None
    have_bytes: int | None = None


LOADED = Fit(True, "it is loaded")


def fit(
    size_bytes: int | None,
    *,
    resident: bool | None,
    local: bool,
    available_bytes: int | None,
    resident_bytes: Sequence[int] = (),
    factor: float = 1.15,
    reserve_bytes: int = 0,
) -> Fit:
    """Weights times `factor` (context and buffers) plus a reserve, against what is free or may be freed.

    Other resident models of the same node count as free: the server unloads them to make place (wire facts
    A6).
    """
    if resident:
        return LOADED
    if not local:
        return Fit(None, "the node is on another machine, its memory is not known")
    if size_bytes is None:
        return Fit(None, "the server does not tell its size")
    if available_bytes is None:
        return Fit(None, "the free memory is not known")
    need = round(size_bytes * factor) + reserve_bytes
    have = available_bytes + sum(resident_bytes)
    numbers = f"needs about {gib(need)}, {gib(have)} can be had"
    if need > have:
        return Fit(False, f"it does not fit: {numbers}", need, have)
    return Fit(True, f"it fits: {numbers}", need, have)


def gib(size_bytes: float) -> str:
    value = size_bytes / GIB
    return f"{value:.1f} GiB" if value >= 0.95 else f"{size_bytes / 1024**2:.0f} MiB"
