"""Find integrations in folders and import them.

Integrations are imported as ``xiaozhi_hub_integrations.<domain>``: a package that exists only in memory and spans the built-in
folder and the owner's own. So they can use relative imports, and no folder of theirs has to be on ``sys.path``.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import re
import shlex
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution, entry_points
from pathlib import Path
from types import ModuleType

from xiaozhi_hub.core.places import builtin
from xiaozhi_hub.errors import ConfigError, NotInstalled
from xiaozhi_hub.models.build_llama import PACKAGE as COMPILED
from xiaozhi_hub.plugins.manifest import Manifest, read_manifest

log = logging.getLogger(__name__)

NAMESPACE = "xiaozhi_hub_integrations"
ENTRY_POINTS = "xiaozhi_hub"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def find_integrations(own: Path | None = None) -> tuple[dict[str, Manifest], list[ConfigError]]:
    """Return the manifests by domain and what is wrong with the others.

    The owner's folder *own* comes first: an integration there replaces a built-in one of the same name.
    """
    found: dict[str, Manifest] = {}
    wrong: list[ConfigError] = []
    for folder in _folders(own):
        if folder.name in found or not (folder / "manifest.json").is_file():
            continue
        try:
            found[folder.name] = read_manifest(folder)
        except ConfigError as error:
            wrong.append(error)
    return found, wrong


def _folders(own: Path | None) -> Iterable[Path]:
    for parent in (own, builtin("integrations")):
        if parent is not None and parent.is_dir():
            yield from sorted(child for child in parent.iterdir() if child.is_dir())
    for point in entry_points(group=ENTRY_POINTS):
        try:
            module = importlib.util.find_spec(point.value)
        except (ImportError, ValueError) as error:  # its package was removed by halves
            log.error("the integration %s of an installed package cannot be found: %s", point.name, error)
            continue
        if module is not None and module.origin is not None:
            yield Path(module.origin).parent


def import_integration(folder: Path) -> ModuleType:
    """Import the integration in *folder* and return its package. Threads may import different ones at the same time."""
    namespace = sys.modules.setdefault(NAMESPACE, _namespace())
    name = f"{NAMESPACE}.{folder.name}"
    loaded = sys.modules.get(name)
    if loaded is not None:
        if Path(loaded.__file__ or "").parent == folder:
            return loaded
        forget_integration(folder.name)
    importlib.invalidate_caches()
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:  # half a package must not stay, whatever it was
        if sys.modules.get(name) is module:  # one that hung may end after another import of it has begun
            forget_integration(folder.name)
        raise
    setattr(namespace, folder.name, module)
    return module


def _namespace() -> ModuleType:
    namespace = ModuleType(NAMESPACE)
    namespace.__path__ = []
    return namespace


def forget_integration(domain: str) -> None:
    """Make the next import read the files again."""
    prefix = f"{NAMESPACE}.{domain}"
    for name in tuple(sys.modules):  # a copy: other threads import something all the time
        if name == prefix or name.startswith(prefix + "."):
            sys.modules.pop(name, None)


def _cures(missing: list[str]) -> list[str]:
    """The commands that install what is missing."""
    plain = [requirement for requirement in missing if _NAME.match(requirement.strip())[0] != COMPILED]  # type: ignore[index]  # the manifest was checked
    cures = [f"{sys.executable} -m pip install {shlex.join(plain)}"] if plain else []
    if len(plain) < len(missing):  # pip would compile it in a way that does not run on every machine
        cures.append(f"{sys.executable} -m xiaozhi_hub.models.build_llama --install")
    return cures


def check_requirements(manifest: Manifest) -> None:
    """Raise `NotInstalled` with the command to run when a package is missing. Imports nothing."""
    missing = []
    for requirement in manifest.requirements:
        try:
            distribution(_NAME.match(requirement.strip())[0])  # type: ignore[index]  # the manifest was checked
        except PackageNotFoundError:
            missing.append(requirement)
    if missing:
        raise NotInstalled(
            f"{manifest.name} needs {', '.join(missing)}, which is not installed.",
            code="requirement-missing",
            hint="Run: " + "   and: ".join(_cures(missing)),
        )
