"""Files that appear whole or not at all. Blocking: for the store's own threads only."""

from __future__ import annotations

from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write *content* under a name that begins with a dot, then give it its own. OSError leaves nothing behind."""
    unfinished = path.with_name(f".{path.name}")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise


__all__ = ["write_whole"]
