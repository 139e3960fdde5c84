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

from xiaozhi_hub.cli.local_hub import ask_hub, url_of
from xiaozhi_hub.cli.options import add_again, add_config, add_port
from xiaozhi_hub.cli.progress import TerminalProgress
from xiaozhi_hub.cli.table import print_table
from xiaozhi_hub.errors import HubError

if TYPE_CHECKING:
    from xiaozhi_hub.core.config import Config
    from xiaozhi_hub.models.catalogue import Catalogue, CatalogueModel
    from xiaozhi_hub.models.shelf import InstalledModel, ModelShelf


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "models",
        help="list, fetch and carry models",
        description="The models of the voice loop: what there is, what fits this board, and how it gets here. Nothing is "
        "fetched but by 'download'.",
    )
    add_config(parser)
    add_port(parser)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="show the catalogue and what is here")
    listing.add_argument("--json", action="store_true", help="print JSON")
    recommend = actions.add_parser("recommend", help="measure this board and say which models fit it")
    recommend.add_argument("--json", action="store_true", help="print JSON")
    recommend.add_argument("--no-run", action="store_true", help="do not run the models that are here")
    download = actions.add_parser("download", help="fetch models from the address in models: mirror:")
    download.add_argument("names", nargs="+", metavar="NAME")
    download.add_argument("--yes", action="store_true", help="agree to licences that ask for it")
    carry = actions.add_parser("import", help="take models from a folder, a file or a stick")
    carry.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    carry.add_argument("--name", help="what to call the model (one only)")
    remove = actions.add_parser("remove", help="delete models")
    remove.add_argument("names", nargs="+", metavar="NAME")
    verify = actions.add_parser("verify", help="read models again and compare them with what they should be")
    verify.add_argument("names", nargs="*", metavar="NAME", help="all that are here unless named")
    add_again(actions.choices, port=True)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do what was asked; 1 when something is wrong with a model."""
    from xiaozhi_hub.core.config import load_config
    from xiaozhi_hub.models.catalogue import catalogue_for
    from xiaozhi_hub.models.shelf import ModelShelf

    config = load_config(args.config.expanduser().resolve())
    shelf = ModelShelf(config.data_dir / "models")
    known = catalogue_for(config.config_dir)
    if args.action == "list":
        return _list(shelf, known, as_json=args.json)
    if args.action == "recommend":
        from xiaozhi_hub.cli.models_fit import recommend

        return recommend(config, shelf, known, as_json=args.json, run=not args.no_run)
    if args.action == "download":
        return _download(config, shelf, known, args)
    if args.action == "import":
        return _import(shelf, known, args)
    if args.action == "remove":
        return _remove(shelf, known, args)
    return _verify(shelf, known, args.names)


def _progress() -> TerminalProgress:
    from xiaozhi_hub.models.stock import shown_bytes

    return TerminalProgress(count=shown_bytes)


# -- looking --------------------------------------------------------------------------------------------------------


def _list(shelf: ModelShelf, known: Catalogue, *, as_json: bool) -> int:
    from xiaozhi_hub.models.catalogue import RUNNERS
    from xiaozhi_hub.models.stock import all_installed, shown_bytes, size_of, unfinished

    here = {(model.engine, model.name): model for model in all_installed(shelf, tuple(RUNNERS))}
    rows: list[dict[str, Any]] = []
    for model in known.models:
        installed = here.pop((model.engine, model.name), None)
        rows.append(
            {
                "name": model.name,
                "engine": model.engine,
                "role": model.role,
                "languages": list(model.languages),
                "about": model.about,
                "bytes": model.size,
                "memory_mib": model.memory_mib,
                "memory_basis": model.memory_basis,
                "licence": model.licence,
                "ask": model.ask,
                "repository": model.source.repository,
                "folder": model.source.folder,
                "revision": model.source.revision,
                "files": {file.name: {"bytes": file.size, "checked_by": file.known_by} for file in model.files},
                "state": "here" if installed else "partly" if unfinished(shelf, model.engine, model.name) else "",
            }
        )
    rows += [
        {"name": model.name, "engine": model.engine, "about": "your own", "bytes": size_of(model), "state": "here"}
        for model in here.values()
    ]
    if as_json:
        print(json.dumps({"folder": str(shelf.folder), "models": rows}, ensure_ascii=False, indent=1))
        return 0
    table = [("", "NAME", "SIZE", "MEMORY", "WHAT", "LICENCE")]
    for row in rows:
        languages = f" ({', '.join(row['languages'])})" if "languages" in row else ""
        memory = f"{row['memory_mib']} MiB" if "memory_mib" in row else ""
        licence = f"{row.get('licence', '')}{' *' if row.get('ask') else ''}"
        mark = {"here": "✓", "partly": "…"}.get(row["state"], " ")
        size = shown_bytes(row["bytes"])
        table.append((mark, row["name"], size, memory, f"{row['about']}{languages}", licence))
    print_table(table)
    print(f"✓ is here, in {shelf.folder}; … has come in part.  * asks you to agree to its licence.")
    print("Which of them fit this board: xiaozhi-hub models recommend")
    return 0


def _verify(shelf: ModelShelf, known: Catalogue, names: list[str]) -> int:
    from xiaozhi_hub.models.catalogue import RUNNERS
    from xiaozhi_hub.models.stock import all_installed, verify

    models = [_installed(shelf, name) for name in names] or list(all_installed(shelf, tuple(RUNNERS)))
    if not models:
        print(f"There are no models in {shelf.folder}.")
    good = True
    for model in models:
        verdicts = verify(model, known, _progress())
        wrong = [verdict for verdict in verdicts if verdict.wrong]
        good = good and not wrong
        if wrong:
            for verdict in wrong:
                print(f"{model.name}: {verdict.file}: {verdict.wrong}.")
            again = f"xiaozhi-hub models download {model.name}"
            print(f"  Run: {again}" if known.get(model.name) is not None else "  Import it again from where it came.")
        elif verdicts:
            print(f"{model.name}: good ({', '.join(f'{verdict.file}: {verdict.by}' for verdict in verdicts)})")
        else:
            print(f"{model.name}: nothing is known to compare it with; it was put there by hand.")
    return 0 if good else 1


def _installed(shelf: ModelShelf, name: str) -> InstalledModel:
    from xiaozhi_hub.models.catalogue import RUNNERS
    from xiaozhi_hub.models.stock import all_installed

    here = all_installed(shelf, tuple(RUNNERS))
    for model in here:
        if model.name == name:
            return model
    names = ", ".join(model.name for model in here) or "none"
    raise HubError(f"There is no model {name} here.", code="model-missing", hint=f"There are: {names}.")


# -- getting --------------------------------------------------------------------------------------------------------


def _download(config: Config, shelf: ModelShelf, known: Catalogue, args: argparse.Namespace) -> int:
    from xiaozhi_hub.models.download import download
    from xiaozhi_hub.models.sources import address_of
    from xiaozhi_hub.models.stock import shown_bytes, verify

    wanted = [known.find(name) for name in dict.fromkeys(args.names)]
    missing = []
    for model in wanted:
        here = next((each for each in shelf.installed(model.engine) if each.name == model.name), None)
        if here is None:
            missing.append(model)
        elif any(verdict.wrong for verdict in verify(here, known, _progress())):
            print(f"{model.name} is here, but damaged: it is fetched anew.")
            missing.append(model)
        else:
            print(f"{model.name} is here already, and good.")
    for model in missing:
        address_of(config.models, model, model.files[0])  # before anybody is asked anything
    for model in missing:
        print(
            f"{model.name}: {model.about}, {shown_bytes(model.size)}, from {model.source.repository}. Licence: {model.licence}"
        )
        unchecked = [f"{file.name} ({file.known_by})" for file in model.files if file.checksum is None]
        if unchecked:
            print(f"  No checksum is known of: {', '.join(unchecked)}")
    _agree([model for model in missing if model.ask], yes=args.yes)
    for model in missing:
        try:
            installed = asyncio.run(download(model, shelf, config.models, _progress()))
        except KeyboardInterrupt:
            print("Stopped. What has come so far is kept: the same command goes on from there.", file=sys.stderr)
            raise
        print(f"{model.name} is in {installed.folder}")
    for model in wanted:
        _offer_runner(model.engine)
    _tell_hub(args, [model.engine for model in missing])
    return 0


def _agree(models: list[CatalogueModel], *, yes: bool) -> None:
    """Have a person agree to each licence that asks for it; `HubError` when nobody does."""
    if yes:
        return
    for model in models:
        answer = ""
        if sys.stdin.isatty():
            try:
                answer = input(f"Do you agree to the licence of {model.name} ({model.licence})? Type yes: ")
            except EOFError:
                answer = ""
        if answer.strip().lower() != "yes":
            raise HubError(
                f"{model.name} has a licence to agree to: {model.licence}.",
                code="licence-open",
                hint="Read it where the model is published. If you agree, give the command again with --yes. Nothing was fetched.",
            )


def _import(shelf: ModelShelf, known: Catalogue, args: argparse.Namespace) -> int:
    from xiaozhi_hub.models.carry import bring, recognise, renamed
    from xiaozhi_hub.models.stock import shown_bytes

    found = [each for path in args.paths for each in recognise(path.expanduser(), known, shelf)]
    if args.name is not None:
        if len(found) != 1:
            raise HubError(
                f"--name is for one model, and there are {len(found)}: {', '.join(each.name for each in found)}.",
                hint="Name the path of one.",
            )
        found = [renamed(found[0], args.name)]
    brought: list[str] = []
    for each in found:
        if each.lacks:
            print(f"{each.name} is left out: {each.lacks}.", file=sys.stderr)
            continue
        standing = (
            "known to the catalogue"
            if each.listed is not None
            else "not in the catalogue, so nothing to compare it with"
        )
        print(f"{each.name}: {each.engine}, {shown_bytes(each.size)}, {standing}")
        if each.listed is not None:
            print(f"  Licence: {each.listed.licence}")
        if any(model.name == each.name for model in shelf.installed(each.engine)):
            print(f"  {each.name} is here already: it is replaced when all has come. With --name NAME both are kept.")
        try:
            installed = bring(each, shelf, _progress())
        except HubError as error:
            if error.code != "model-damaged":
                raise
            print(f"{each.name} is left out: {error}", file=sys.stderr)
            continue
        print(f"{each.name} is in {installed.folder}")
        brought.append(each.engine)
    for engine in dict.fromkeys(brought):
        _offer_runner(engine)
    _tell_hub(args, brought)
    return 0 if len(brought) == len(found) else 1


def _remove(shelf: ModelShelf, known: Catalogue, args: argparse.Namespace) -> int:
    import shutil

    from xiaozhi_hub.models.stock import remove, shown_bytes, unfinished

    gone = []
    for name in dict.fromkeys(args.names):
        listed = known.get(name)
        part = unfinished(shelf, listed.engine, name) if listed is not None else None
        if part is not None:
            shutil.rmtree(part)
            print(f"What had come of {name} is deleted.")
            if all(model.name != name for model in shelf.installed(part.parent.name)):
                continue
        model = _installed(shelf, name)
        print(f"{name} is deleted: {shown_bytes(remove(model))} are free again.")
        gone.append(model.engine)
    _tell_hub(args, gone)
    return 0


def _offer_runner(engine: str) -> None:
    """Say how the package comes here that runs the models of *engine*, or build it when the person wishes."""
    from xiaozhi_hub.models.catalogue import RUNNERS

    runner = RUNNERS[engine]
    if importlib.util.find_spec(runner.module) is not None:
        return
    if engine != "llama_cpp":
        print(
            f"To run it, the hub needs one package more: {sys.executable} -m pip install 'xiaozhi-hub[{runner.extra}]'"
        )
        return
    from xiaozhi_hub.models import build_llama

    print("To run it, the hub needs llama-cpp-python, which is compiled on this machine once (five to thirty minutes).")
    if not sys.stdin.isatty():
        print(f"  Run: {sys.executable} -m xiaozhi_hub.models.build_llama --install")
    elif input("Compile it now? Type yes: ").strip().lower() == "yes":
        build_llama.main(["--install"])


def _tell_hub(args: argparse.Namespace, engines: list[str]) -> None:
    """Have a hub that runs look at its models again."""
    for engine in dict.fromkeys(engines):
        try:
            entry = ask_hub(url_of(args), f"/api/integrations/{engine}/reload", {}, "It would take the model up now")[
                "entry"
            ]
        except HubError:
            print(f"The hub takes notice of its {engine} models at its next start.")
            continue
        state = f"{entry['state']}{': ' + entry['reason'] if entry['reason'] else ''}"
        print(f"The hub that runs has looked at its {engine} models again: {state}")
