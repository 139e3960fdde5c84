"""XiaoZhi Hub: an offline-first voice hub for the home."""

__version__ = "0.1.0"
