"""``python -m xiaozhi_hub`` is the command ``xiaozhi-hub``."""

from __future__ import annotations

import sys

from xiaozhi_hub.cli import main

sys.exit(main())
