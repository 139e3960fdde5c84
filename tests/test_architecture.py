"""The rules of the house that a machine can check."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "xiaozhi_hub"

RANK = {
    "errors": 0,
    "core": 1,
    "store": 2,
    "audio": 2,
    "protocol": 2,
    "engines": 3,
    "firmware": 3,
    "models": 3,
    "display": 3,
    "tools": 3,
    "entities": 3,
    "plugins": 4,
    "dialog": 5,
    "devices": 6,
    "automation": 6,
    "web": 7,
    "discovery": 7,
    "diagnostics": 7,
    "stepping": 7,
    "problems": 7,
    "storage": 8,
    "front": 8,
    "overview": 9,
    "readiness": 9,
    "services": 8,
    "archive": 8,
    "answering": 8,
    "reloading": 8,
    "own_tools": 9,
    "reception": 9,
    "rooms": 9,
    "threshold": 9,
    "hub": 10,
    "doctor": 10,
    "testing": 11,
    "conformance": 11,
    "cli": 11,
    "__main__": 11,
}
"""Imports point from a higher number to a lower one, or stay in their own room."""
NEIGHBOURS = {
    ("cli", "testing"),
    ("cli", "conformance"),
    ("conformance", "testing"),
    ("__main__", "cli"),
    ("tools", "engines"),
    ("entities", "tools"),
    ("store", "audio"),
    ("archive", "storage"),
    ("services", "front"),
}
"""Rooms of equal rank where one may look into the other, never back."""
INSIDE = {
    "dialog": {
        "ahead": 0,
        "assistants": 0,
        "grammar": 0,
        "hearing": 0,
        "speaking": 0,
        "vision": 0,
        "intents": 1,
        "memory": 1,
        "agent": 2,
        "respond": 3,
        "turn_parts": 4,
        "ask": 5,
        "prewarm": 5,
        "read_aloud": 5,
        "transcribe": 5,
        "turn": 5,
    },
    "devices": {
        "abilities": 0,
        "acquaintance": 0,
        "pairing": 0,
        "waking": 0,
        "management": 1,
        "sessions": 1,
        "announcements": 2,
    },
    "web": {"requests": 0, "devices": 1, "pages": 1, "programs": 2, "openai": 3, "app": 3},
}
"""Rooms with walls of their own: the same rule, and parts of equal rank know nothing of each other."""


def imports_of(path: Path, root: Path = ROOT) -> Iterator[tuple[str, int]]:
    """Yield the absolute names of the modules that *path* imports at run time, with their lines."""

    def walk(node: ast.AST) -> Iterator[ast.stmt]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if isinstance(child, (ast.Import, ast.ImportFrom)):
                yield child
            yield from walk(child)

    for statement in walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                yield alias.name, statement.lineno
        elif isinstance(statement, ast.ImportFrom):
            if statement.level:
                inside = path.relative_to(root).with_suffix("").parts
                base = inside[: len(inside) - statement.level]
                yield ".".join((*base, statement.module or "")).strip("."), statement.lineno
            else:
                yield statement.module or "", statement.lineno


def room_of(module: str, depth: int = 1) -> str:
    names = module.split(".")
    return names[depth] if len(names) > depth else ""


def wrong_imports(root: Path) -> list[str]:
    wrong = []
    for path in sorted((root / "xiaozhi_hub").rglob("*.py")):
        here = room_of(".".join(path.relative_to(root).with_suffix("").parts))
        if here == "__init__":
            here = ""
        for module, line in imports_of(path, root):
            if not module.startswith("xiaozhi_hub"):
                continue
            there = room_of(module)
            if not there or there == here or (here, there) in NEIGHBOURS:
                continue
            if not here or RANK[there] >= RANK[here]:
                wrong.append(f"{path.relative_to(root)}:{line}: {here or 'xiaozhi_hub'} must not import {there}")
    return wrong


def test_imports_point_one_way() -> None:
    assert wrong_imports(ROOT) == []


def test_the_import_rule_would_notice(tmp_path: Path) -> None:
    folder = tmp_path / "xiaozhi_hub" / "core"
    folder.mkdir(parents=True)
    (folder / "bad.py").write_text("def f():\n    from xiaozhi_hub.dialog import turn\n")
    (folder / "good.py").write_text("from xiaozhi_hub import errors\nfrom xiaozhi_hub.errors import HubError\n")
    assert wrong_imports(tmp_path) == ["xiaozhi_hub/core/bad.py:2: core must not import dialog"]


def wrong_imports_inside(folder: Path, rank: Mapping[str, int], root: Path = ROOT) -> list[str]:
    """The imports between the parts of *folder* that do not point from a higher to a lower rank."""
    wrong = []
    inside = ".".join(folder.relative_to(root).parts)
    for path in sorted(folder.rglob("*.py")):
        here = path.relative_to(folder).with_suffix("").parts[0]
        for module, line in imports_of(path, root):
            there = room_of(module, inside.count(".") + 1) if module.startswith(f"{inside}.") else ""
            if there and there != here and (here not in rank or rank[there] >= rank[here]):
                wrong.append(f"{path.relative_to(root)}:{line}: {here} must not import {there}")
    return wrong


@pytest.mark.parametrize("room", INSIDE)
def test_imports_inside_a_room_point_one_way(room: str) -> None:
    assert wrong_imports_inside(PACKAGE / room, INSIDE[room]) == []


def test_the_import_rule_inside_a_room_would_notice(tmp_path: Path) -> None:
    folder = tmp_path / "xiaozhi_hub" / "dialog"
    (folder / "hearing").mkdir(parents=True)
    (folder / "hearing" / "bad.py").write_text("from xiaozhi_hub.dialog.speaking.mouth import Mouth\n")
    (folder / "hearing" / "good.py").write_text("from xiaozhi_hub.dialog.hearing.bad import Mouth\n")
    (folder / "turn.py").write_text("from xiaozhi_hub.dialog.hearing.good import Mouth\n")
    assert wrong_imports_inside(folder, INSIDE["dialog"], tmp_path) == [
        "xiaozhi_hub/dialog/hearing/bad.py:1: hearing must not import speaking"
    ]


def rooms_in(folder: Path) -> set[str]:
    names = {p.stem if p.is_file() else p.name for p in folder.iterdir() if p.suffix == ".py" or p.is_dir()}
    return names - {"__init__", "__pycache__"}


def test_every_room_has_a_rank() -> None:
    assert rooms_in(PACKAGE) - {"docs", "translations", "builtin"} <= set(RANK)
    for room, parts in INSIDE.items():
        assert rooms_in(PACKAGE / room) == set(parts)


def circle_in(folders: tuple[Path, ...], root: Path = ROOT) -> list[str]:
    """One circle of files that import each other; imports that only type checkers follow are imports, too."""
    module = {path: path.relative_to(root).with_suffix("").parts for folder in folders for path in folder.rglob("*.py")}
    path_of = {".".join(parts).removesuffix(".__init__"): path for path, parts in module.items()}

    def imported(path: Path) -> Iterator[Path]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = module[path][: len(module[path]) - node.level] if node.level else ()
                start = ".".join((*base, *((node.module,) if node.module else ())))
                inside = (f"{start}.{alias.name}" for alias in node.names)
                names = [name if name in path_of else start for name in inside]
            yield from (path_of[name] for name in names if name in path_of)

    try:
        TopologicalSorter({path: set(imported(path)) - {path} for path in module}).prepare()
    except CycleError as error:
        return [str(path.relative_to(root)) for path in error.args[1]]
    return []


def test_no_files_import_each_other_in_a_circle() -> None:
    assert circle_in((PACKAGE, ROOT / "integrations")) == []


def test_the_rule_against_circles_would_notice(tmp_path: Path) -> None:
    folder = tmp_path / "engine"
    folder.mkdir()
    (folder / "stream.py").write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .whole import X\n")
    (folder / "whole.py").write_text("def f():\n    from . import stream\n")
    assert set(circle_in((folder,), tmp_path)) == {"engine/stream.py", "engine/whole.py"}
    (folder / "whole.py").write_text("import stream\n")
    assert circle_in((folder,), tmp_path) == []


def test_packages_import_nothing_by_themselves() -> None:
    """Whoever wants one file of a room gets that one: the start of the hub has no time for its neighbours."""
    faces = ("cli", "conformance", "discovery", "testing")  # no part of the start, or not before the ports are open
    wrong = []
    for path in sorted(PACKAGE.rglob("__init__.py")):
        if path.parent.name not in faces:
            wrong += [f"{path.relative_to(ROOT)}:{line}: {module}" for module, line in imports_of(path)]
    assert wrong == []


def test_integrations_use_only_the_public_interface() -> None:
    wrong = []
    for path in sorted((ROOT / "integrations").rglob("*.py")):
        for module, line in imports_of(path):
            if module.startswith("xiaozhi_hub") and module != "xiaozhi_hub.plugins.api":
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {module}")
    assert wrong == []


def test_tasks_have_owners() -> None:
    """Only core/ may make tasks; everybody else starts them in a `TaskScope`."""
    wrong = []
    for folder in (PACKAGE, ROOT / "integrations"):
        for path in sorted(folder.rglob("*.py")):
            if path.is_relative_to(PACKAGE / "core"):
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Attribute) and node.attr in ("create_task", "ensure_future"):
                    owner = node.value
                    if not (isinstance(owner, ast.Name) and owner.id in ("group", "scope")):
                        wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert wrong == []


def test_broad_excepts_say_why() -> None:
    """`except Exception` stands at a border, with the reason on its line."""
    wrong = []
    for folder in (PACKAGE, ROOT / "integrations"):
        for path in sorted(folder.rglob("*.py")):
            lines = path.read_text(encoding="utf-8").splitlines()
            wrong += [
                f"{path.relative_to(ROOT)}:{number}"
                for number, line in enumerate(lines, 1)
                if ("except Exception" in line or "except BaseException" in line)
                and "#" not in line
                and "raise" not in lines[min(number + 1, len(lines) - 1)]
            ]
    assert wrong == []
