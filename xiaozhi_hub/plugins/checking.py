"""What is written for integrations, checked before anybody starts them."""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from xiaozhi_hub.core.checking import check_options
from xiaozhi_hub.core.config import Config
from xiaozhi_hub.core.documents import KeyPath
from xiaozhi_hub.core.secret import Secret
from xiaozhi_hub.core.workers import Worker
from xiaozhi_hub.errors import ConfigError, ConfigErrors, EntryError
from xiaozhi_hub.plugins.containing import THREAD_SECONDS, contained
from xiaozhi_hub.plugins.loader import NAMESPACE, find_integrations, import_integration
from xiaozhi_hub.plugins.manifest import Manifest

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What another configuration means for integrations."""

    domains: frozenset[str] = frozenset()
    """Those that it says something else of."""
    manifests: Mapping[str, Manifest] = field(default_factory=dict)
    """All that there are now; empty without *domains*."""
    secret: frozenset[KeyPath] = frozenset()
    """The keys of values that integrations take for secret."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of it."""

    errors: list[ConfigError] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    """Whose options nobody can judge, and why: for people."""
    secret: set[KeyPath] = field(default_factory=set)
    """The keys of values that an integration takes for secret."""


def check_integrations(config: Config, known: Mapping[str, Manifest], domains: Iterable[str]) -> Checked:
    """Check what *config* says of the integrations *domains*. It imports them: call it in a thread."""
    checked = Checked()
    for domain in domains:
        if domain not in config.integrations:
            continue
        place = config.place(("integrations", domain))
        if domain not in known:
            near = get_close_matches(domain, list(known), 1)
            hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(sorted(known))}."
            checked.errors.append(ConfigError(f'there is no integration "{domain}".', place, hint=hint))
        elif config.integrations[domain] is not False and (known[domain].folder / "config.py").is_file():
            _check_options(domain, known[domain].folder, config, checked)
    return checked


async def prepare(running: Config, wanted: Config, seconds: float) -> Prepared:
    """Look at what *wanted* says of integrations otherwise than *running*, and change nothing. `ConfigErrors` for what is wrong
    with it; `EntryError` when an integration takes longer than *seconds* to be looked at."""
    before, after = running.integrations, wanted.integrations
    domains = frozenset(domain for domain in {*before, *after} if _differs(domain, before, after))
    if not domains:
        return Prepared()
    worker = Worker("check-options")
    try:
        async with asyncio.timeout(seconds):
            manifests, wrong = await worker.run(contained, find_integrations, wanted.config_dir / "integrations")
            checked = await worker.run(contained, check_integrations, wanted, manifests, sorted(domains))
            known = await worker.run(contained, check_integrations, running, manifests, sorted(domains))
    except TimeoutError:
        message = f"{', '.join(sorted(domains))}: the options could not be checked within {seconds:g} s."
        raise EntryError(message, hint="See the log for what the integration was doing.") from None
    finally:
        await worker.close(THREAD_SECONDS)
    errors = [error for error in wrong if Path(error.place.file).parent.name in domains & set(after)]
    if errors or checked.errors:
        raise ConfigErrors([*errors, *checked.errors])
    for note in checked.unchecked:
        log.warning("%s", note)
    return Prepared(domains, manifests, frozenset(checked.secret | known.secret))


def _differs(domain: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Do two configurations want something else of an integration? Nothing and no options are the same."""
    if (domain in before) != (domain in after):
        return True
    return bool((before[domain] or (before[domain] is not False)) != (after[domain] or (after[domain] is not False)))


def _check_options(domain: str, folder: Path, config: Config, checked: Checked) -> None:
    options = config.integrations[domain]
    raw = options if isinstance(options, Mapping) else {}
    prefix: KeyPath = ("integrations", domain)
    # For secret where nobody can say what is one: a token may stand under a mistyped key.
    every: list[KeyPath] = [(*prefix, key) for key in raw]
    try:
        import_integration(folder)
        module = importlib.import_module(f"{NAMESPACE}.{domain}.config")
    except Exception as error:  # an integration is anybody's code, and importing it may fail in any way
        place = config.place(("integrations", domain))
        why = f"It cannot be loaded ({type(error).__name__}: {error})."
        checked.unchecked.append(f"{place}: its options were not checked. {why}")
        checked.secret.update(every)
        return
    try:
        values = check_options(module.SCHEMA, raw, lambda path: config.place((*prefix, *path)))
    except ConfigErrors as wrong:
        checked.errors.extend(wrong.errors)
        checked.secret.update(every)
    else:
        checked.secret.update(_secret_in(values, prefix))


def _secret_in(value: Any, path: KeyPath) -> Iterable[KeyPath]:
    if isinstance(value, Secret):
        yield path
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _secret_in(each, (*path, str(key)))
    elif isinstance(value, (list, tuple)):
        for index, each in enumerate(value):
            yield from _secret_in(each, (*path, index))


__all__ = ["Checked", "Prepared", "check_integrations", "prepare"]
