"""Options that commands have in common."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_config_option(parser: argparse.ArgumentParser, meaning: str = "the configuration folder") -> None:
    """Describe ``--config``, which names the folder with the owner's files."""
    parser.add_argument("-c", "--config", type=Path, default=Path("config"), metavar="DIR",
                        help=f"{meaning} (default: ./config)")  # fmt: skip


__all__ = ["add_config_option"]
