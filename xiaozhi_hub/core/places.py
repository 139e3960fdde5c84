"""Where the parts that come with the hub are found: beside the package in a checkout, inside it in an installed wheel."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent


def builtin(folder: str) -> Path:
    """Return the built-in folder ``integrations``, ``blueprints`` or ``config``."""
    checkout = PACKAGE.parent / folder
    if (PACKAGE.parent / "setup.cfg").is_file() and checkout.is_dir():
        return checkout
    return PACKAGE / "builtin" / folder
