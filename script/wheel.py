"""How the parts beside the package get into the wheel; named in setup.cfg, run by setuptools."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("integrations", "blueprints", "config")
"""Put into ``xiaozhi_hub/builtin/``, where `xiaozhi_hub.core.places` finds them."""


class BuildPy(build_py):
    """Builds the package with the built-in folders inside it, and with nothing left over from an earlier build."""

    def run(self) -> None:
        if self.editable_mode:
            super().run()
            return
        package = Path(self.build_lib) / "xiaozhi_hub"
        shutil.rmtree(package, ignore_errors=True)
        super().run()
        for folder in filter(lambda name: (ROOT / name).is_dir(), FOLDERS):
            shutil.copytree(ROOT / folder, package / "builtin" / folder, ignore=_unwanted)
        for path in (package / "builtin" / "config").rglob("secrets.yaml"):
            _forget_secrets(path)


def _unwanted(folder: str, names: list[str]) -> set[str]:
    """Leave out what Python, and a hub that runs from the checkout, have made."""
    made = shutil.ignore_patterns("__pycache__", "*.pyc", ".*_cache")(folder, names)
    if Path(folder) == ROOT / "config":
        made |= set(names) - {"configuration.yaml", "secrets.yaml"}
    return made


def _forget_secrets(path: Path) -> None:
    """Keep only the comments: who builds a wheel in the folder of their own hub must not hand out their passwords."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.strip() or line.startswith("#")), encoding="utf-8")
