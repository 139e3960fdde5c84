"""``xiaozhi-hub models``: which models there are, which fit this board, and how they get here. It needs no running hub.

Nothing is fetched but by ``download``, and then from the address in the owner's settings alone.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xiaozhi_hub.cli.local_hub import RESTART_SECONDS, LocalHub
from xiaozhi_hub.cli.options import add_again, add_config, add_port
from xiaozhi_hub.cli.progress import TerminalProgress
from xiaozhi_hub.cli.table import print_table
from xiaozhi_hub.cli.words import Words
from xiaozhi_hub.errors import HubError

if TYPE_CHECKING:
    from xiaozhi_hub.core.config import Config
    from xiaozhi_hub.models.catalogue import Catalogue, CatalogueModel
    from xiaozhi_hub.models.shelf import InstalledModel, ModelShelf


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "models",
        help="cli.commands.models",
        description="cli.models.about",
    )
    add_config(parser)
    add_port(parser)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="cli.models.help.list")
    listing.add_argument("--json", action="store_true", help="cli.options.print_json")
    recommend = actions.add_parser("recommend", help="cli.models.help.recommend")
    recommend.add_argument("--json", action="store_true", help="cli.options.print_json")
    recommend.add_argument("--no-run", action="store_true", help="cli.models.help.no_run")
    download = actions.add_parser("download", help="cli.models.help.download")
    download.add_argument("names", nargs="+", metavar="NAME", help="cli.models.help.listed_name")
    download.add_argument("--yes", action="store_true", help="cli.models.help.yes")
    carry = actions.add_parser("import", help="cli.models.help.import")
    carry.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="cli.models.help.path")
    carry.add_argument("--name", help="cli.models.help.import_name")
    remove = actions.add_parser("remove", help="cli.models.help.remove")
    remove.add_argument("names", nargs="+", metavar="NAME", help="cli.models.help.listed_name")
    verify = actions.add_parser("verify", help="cli.models.help.verify")
    verify.add_argument("names", nargs="*", metavar="NAME", help="cli.models.help.verify_name")
    add_again(actions.choices, port=True)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do what was asked; 1 when something is wrong with a model."""
    from xiaozhi_hub.core.config import load_config
    from xiaozhi_hub.models.catalogue import catalogue_for
    from xiaozhi_hub.models.shelf import ModelShelf

    config = load_config(args.config.expanduser().resolve())
    hub = LocalHub(config, args.port)
    words = hub.words
    shelf = ModelShelf(config.data_dir / "models")
    known = catalogue_for(config.config_dir)
    if args.action == "list":
        return _list(shelf, known, words, as_json=args.json)
    if args.action == "recommend":
        from xiaozhi_hub.cli.models_fit import recommend

        return recommend(config, shelf, known, words, as_json=args.json, run=not args.no_run)
    if args.action == "download":
        return _download(config, shelf, known, hub, args)
    if args.action == "import":
        return _import(shelf, known, hub, args)
    if args.action == "remove":
        return _remove(shelf, hub, args.names)
    return _verify(shelf, known, words, args.names)


def _progress(words: Words) -> TerminalProgress:
    from xiaozhi_hub.models.stock import shown_bytes

    return TerminalProgress(count=shown_bytes, words=words)


# -- looking --------------------------------------------------------------------------------------------------------


def _list(shelf: ModelShelf, known: Catalogue, words: Words, *, as_json: bool) -> int:
    from xiaozhi_hub.models.catalogue import RUNNERS
    from xiaozhi_hub.models.stock import all_installed, all_unfinished, shown_bytes, size_of

    here = {(model.engine, model.name): model for model in all_installed(shelf, tuple(RUNNERS))}
    partly = {(engine, name): size for engine, name, size in all_unfinished(shelf, RUNNERS)}
    told = Words("en") if as_json else words  # what programs read is in one language
    rows: list[dict[str, Any]] = []
    for model in known.models:
        installed = here.pop((model.engine, model.name), None)
        begun = partly.pop((model.engine, model.name), None)
        rows.append(
            {
                "name": model.name,
                "engine": model.engine,
                "role": model.role,
                "languages": list(model.languages),
                "about": _about(model, told),
                "bytes": model.size,
                "memory_mib": model.memory_mib,
                "memory_basis": model.memory_basis,
                "licence": model.licence,
                "ask": model.ask,
                "repository": model.source.repository,
                "folder": model.source.folder,
                "revision": model.source.revision,
                "files": {file.name: {"bytes": file.size, "checked_by": file.known_by} for file in model.files},
                "state": "here" if installed else "partly" if begun is not None else "",
            }
        )
    rows += [
        {
            "name": model.name,
            "engine": model.engine,
            "about": told("cli.models.own"),
            "bytes": size_of(model),
            "state": "here",
        }
        for model in here.values()
    ]
    rows += [
        {"name": name, "engine": engine, "about": told("cli.models.own"), "bytes": size, "state": "partly"}
        for (engine, name), size in partly.items()
        if (engine, name) not in here
    ]
    if as_json:
        print(json.dumps({"folder": str(shelf.folder), "models": rows}, ensure_ascii=False, indent=1))
        return 0
    columns = ("name", "size", "memory", "what", "licence")
    table = [("", *(words(f"cli.models.column.{column}") for column in columns))]
    for row in rows:
        languages = f" ({', '.join(row['languages'])})" if "languages" in row else ""
        memory = f"{row['memory_mib']} MiB" if "memory_mib" in row else ""
        licence = f"{row.get('licence', '')}{' *' if row.get('ask') else ''}"
        mark = {"here": "✓", "partly": "…"}.get(row["state"], " ")
        size = shown_bytes(row["bytes"])
        table.append((mark, row["name"], size, memory, f"{row['about']}{languages}", licence))
    print_table(table)
    print(words("cli.models.legend", folder=shelf.folder))
    print(words("cli.models.fitting"))
    return 0


def _about(model: CatalogueModel, words: Words) -> str:
    return model.about or words.named("models.about", model.name)


def _verify(shelf: ModelShelf, known: Catalogue, words: Words, names: list[str]) -> int:
    from xiaozhi_hub.models.catalogue import RUNNERS
    from xiaozhi_hub.models.stock import all_installed, verify

    models = [_installed(shelf, words, name) for name in names] or list(all_installed(shelf, tuple(RUNNERS)))
    if not models:
        print(words("cli.models.none", folder=shelf.folder))
    good = True
    for model in models:
        verdicts = verify(model, known, _progress(words))
        wrong = [verdict for verdict in verdicts if verdict.wrong]
        good = good and not wrong
        if wrong:
            for verdict in wrong:
                print(words("cli.models.wrong", model=model.name, file=verdict.file, wrong=verdict.wrong))
            again = "cli.models.import_again" if known.get(model.name) is None else "cli.models.run"
            print(words(again, command=f"xiaozhi-hub models download {model.name}"))
        elif verdicts:
            files = words.joined(f"{verdict.file}: {verdict.by}" for verdict in verdicts)
            print(words("cli.models.good", model=model.name, files=files))
        else:
            print(words("cli.models.nothing_known", model=model.name))
    return 0 if good else 1


def _installed(shelf: ModelShelf, words: Words, name: str) -> InstalledModel:
    from xiaozhi_hub.models.catalogue import RUNNERS
    from xiaozhi_hub.models.stock import all_installed

    here = all_installed(shelf, tuple(RUNNERS))
    for model in here:
        if model.name == name:
            return model
    names = words.joined(model.name for model in here) or words("cli.models.no_names")
    raise HubError(
        words("cli.models.missing", model=name), code="model-missing", hint=words("cli.models.missing_do", names=names)
    )


# -- getting --------------------------------------------------------------------------------------------------------


def _download(config: Config, shelf: ModelShelf, known: Catalogue, hub: LocalHub, args: argparse.Namespace) -> int:
    from xiaozhi_hub.models.download import download
    from xiaozhi_hub.models.sources import address_of
    from xiaozhi_hub.models.stock import shown_bytes, verify

    words = hub.words
    wanted = [known.find(name) for name in dict.fromkeys(args.names)]
    missing = []
    for model in wanted:
        here = next((each for each in shelf.installed(model.engine) if each.name == model.name), None)
        if here is None:
            missing.append(model)
        elif any(verdict.wrong for verdict in verify(here, known, _progress(words))):
            print(words("cli.models.damaged", model=model.name))
            missing.append(model)
        else:
            print(words("cli.models.whole", model=model.name))
    for model in missing:
        address_of(config.models, model, model.files[0])  # before anybody is asked anything
    for model in missing:
        facts = {
            "model": model.name,
            "about": _about(model, words),
            "size": shown_bytes(model.size),
            "licence": model.licence,
        }
        print(words("cli.models.fetching", **facts, source=model.source.repository))
        unchecked = [f"{file.name} ({file.known_by})" for file in model.files if file.checksum is None]
        if unchecked:
            print(words("cli.models.unchecked", files=words.joined(unchecked)))
    _agree([model for model in missing if model.ask], words, yes=args.yes)
    came: list[str] = []
    try:
        for model in missing:
            installed = asyncio.run(download(model, shelf, config.models, _progress(words)))
            print(words("cli.models.is_in", model=model.name, folder=installed.folder))
            came.append(model.engine)
    except (HubError, KeyboardInterrupt) as error:
        if isinstance(error, KeyboardInterrupt):
            print(words("cli.models.stopped"), file=sys.stderr)
        _tell(hub, came)  # the next command finds these here, and has nothing to tell of them
        raise
    for model in wanted:
        _offer_runner(model.engine, words)
    _tell(hub, came)
    return 0


def _agree(models: list[CatalogueModel], words: Words, *, yes: bool) -> None:
    """Have a person agree to each licence that asks for it; `HubError` when nobody does."""
    if yes:
        return
    for model in models:
        if not _says_yes(words("cli.models.agree", model=model.name, licence=model.licence)):
            raise HubError(
                words("cli.models.licence_open", model=model.name, licence=model.licence),
                code="licence-open",
                hint=words("cli.models.licence_open_do"),
            )


def _says_yes(question: str) -> bool:
    """What the person at the terminal answers; no where there is none, and at the end of the input."""
    if not sys.stdin.isatty():
        return False
    try:
        return input(question).strip().lower() == "yes"
    except EOFError:
        return False


def _import(shelf: ModelShelf, known: Catalogue, hub: LocalHub, args: argparse.Namespace) -> int:
    from xiaozhi_hub.models.carry import bring, recognise, renamed
    from xiaozhi_hub.models.stock import shown_bytes

    words = hub.words
    found = [each for path in args.paths for each in recognise(path.expanduser(), known, shelf)]
    if args.name is not None:
        if len(found) != 1:
            raise HubError(
                words("cli.models.one_name", count=len(found), names=words.joined(each.name for each in found)),
                hint=words("cli.models.one_name_do"),
            )
        found = [renamed(found[0], args.name)]
    brought: list[str] = []
    for each in found:
        if each.lacks:
            print(words("cli.models.lacks", model=each.name, why=each.lacks), file=sys.stderr)
            continue
        standing = "cli.models.found_own" if each.listed is None else "cli.models.found_listed"
        print(words(standing, model=each.name, engine=each.engine, size=shown_bytes(each.size)))
        if each.listed is not None:
            print(words("cli.models.licence", licence=each.listed.licence))
        if any(model.name == each.name for model in shelf.installed(each.engine)):
            print(words("cli.models.replaced", model=each.name))
        try:
            installed = bring(each, shelf, _progress(words))
        except HubError as error:
            if error.code != "model-damaged":
                _tell(hub, brought)
                raise
            print(words("cli.models.left_out", model=each.name, why=error), file=sys.stderr)
            continue
        print(words("cli.models.is_in", model=each.name, folder=installed.folder))
        brought.append(each.engine)
    for engine in dict.fromkeys(brought):
        _offer_runner(engine, words)
    _tell(hub, brought)
    return 0 if len(brought) == len(found) else 1


def _remove(shelf: ModelShelf, hub: LocalHub, names: list[str]) -> int:
    from xiaozhi_hub.models.catalogue import RUNNERS
    from xiaozhi_hub.models.stock import all_unfinished, give_up, remove, shown_bytes

    words = hub.words
    gone: list[str] = []
    try:
        for name in dict.fromkeys(names):
            begun = [engine for engine, each, _ in all_unfinished(shelf, RUNNERS) if each == name]
            for engine in begun:
                give_up(shelf, engine, name)
                print(words("cli.models.part_deleted", model=name))
            if begun and all(model.name != name for engine in RUNNERS for model in shelf.installed(engine)):
                continue
            model = _installed(shelf, words, name)
            print(words("cli.models.deleted", model=name, size=shown_bytes(remove(model))))
            gone.append(model.engine)
    finally:
        _tell(hub, gone)
    return 0


def _offer_runner(engine: str, words: Words) -> None:
    """Say how the package comes here that runs the models of *engine*, or build it when the person wishes."""
    from xiaozhi_hub.models.catalogue import RUNNERS

    runner = RUNNERS[engine]
    if importlib.util.find_spec(runner.module) is not None:
        return
    if engine != "llama_cpp":
        command = f"{sys.executable} -m pip install 'xiaozhi-hub[{runner.extra}]'"
        print(words("cli.models.package", command=command))
        return
    from xiaozhi_hub.models import build_llama

    print(words("cli.models.compile"))
    if not sys.stdin.isatty():
        print(words("cli.models.run", command=f"{sys.executable} -m xiaozhi_hub.models.build_llama --install"))
    elif _says_yes(words("cli.models.compile_now")):
        build_llama.main(["--install"])


def _tell(hub: LocalHub, engines: list[str]) -> None:
    """Have a hub that runs look at its models again."""
    words = hub.words
    for engine in dict.fromkeys(engines):
        try:
            path = f"/api/integrations/{engine}/reload"
            entry = hub.ask(path, {}, "cli.models.hub_why", within_s=RESTART_SECONDS)["entry"]
        except HubError:
            print(words("cli.models.hub_later", engine=engine))
            continue
        state = words.named("cli.entry", entry["state"])
        if entry["reason"]:
            state = words("cli.models.state_reason", state=state, reason=entry["reason"])
        print(words("cli.models.hub_looked", engine=engine, state=state))
