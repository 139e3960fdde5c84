"""``xiaozhi-hub turns``: what was said and done."""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xiaozhi_hub.cli.options import add_config
from xiaozhi_hub.cli.table import cells, pad
from xiaozhi_hub.cli.words import Words, words_for

if TYPE_CHECKING:
    from xiaozhi_hub.core.flow import TurnRecord
    from xiaozhi_hub.store.history import History
    from xiaozhi_hub.store.photos import Photos

_TITLES = ("outcome", "language", "waited", "confidence", "tool", "photo")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("turns", help="cli.commands.turns", description="cli.turns.about")
    parser.add_argument("id", nargs="?", help="cli.turns.help.id")
    add_config(parser)
    parser.add_argument("--device", metavar="ID", help="cli.turns.help.device")
    parser.add_argument("--limit", type=int, default=20, metavar="N", help="cli.turns.help.limit")
    parser.add_argument("--json", action="store_true", help="cli.turns.help.json")
    parser.add_argument("--save-audio", type=Path, metavar="DIR", help="cli.turns.help.save_audio")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Read the database beside a hub that may be running. Returns 1 when there is no such turn or no history."""
    from xiaozhi_hub.core.config import load_config

    config = load_config(args.config.resolve())
    return asyncio.run(_show(config.data_dir, args, words_for(config)))


async def _show(data_dir: Path, args: argparse.Namespace, words: Words) -> int:
    from xiaozhi_hub.audio.ogg import write_ogg
    from xiaozhi_hub.store.database import Database
    from xiaozhi_hub.store.history import History
    from xiaozhi_hub.store.photos import Photos

    database = Database(data_dir / "hub.db", read_only=True)
    await database.open()
    try:
        history = History(database, data_dir / "audio", write_ogg)
        if args.id:
            return await _show_one(history, Photos(database, data_dir / "photos", keep=False), args, words)
        for record in await history.turns(args.limit, args.device):
            print(json.dumps(facts(record), ensure_ascii=False) if args.json else one_line(record, words))
        return 0
    finally:
        await database.close()


async def _show_one(history: History, photos: Photos, args: argparse.Namespace, words: Words) -> int:
    from xiaozhi_hub.errors import HubError

    record = await history.turn(args.id)
    if record is None:
        raise HubError(words("cli.turns.unknown", id=args.id), hint=words("cli.turns.unknown_do"))
    print(json.dumps(facts(record), ensure_ascii=False, indent=1) if args.json else in_full(record, words))
    if not args.json:
        for photo in await photos.of_turn(record.id):
            print(_titled("photo", f"{photos.path(photo.file)}  {photo.question} → {photo.answer}", words))
    if args.save_audio:
        await _save_audio(history, record.id, args.save_audio, words)
    return 0


async def _save_audio(history: History, turn_id: str, folder: Path, words: Words) -> None:
    from xiaozhi_hub.errors import HubError

    audio = await history.audio(turn_id)
    found = [(path, name) for path, name in ((audio.heard, "heard"), (audio.said, "said")) if path is not None]

    def copy() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for path, name in found:
            shutil.copyfile(path, folder / f"{turn_id}-{name}.ogg")

    try:
        await asyncio.to_thread(copy)
    except OSError as error:
        raise HubError(words("cli.files.unwritable", file=folder, why=error.strerror)) from error
    if not found:
        print(words("cli.turns.no_sound"), file=sys.stderr)
    for _, name in found:
        print(folder / f"{turn_id}-{name}.ogg")


def one_line(record: TurnRecord, words: Words) -> str:
    """A turn in a list: when, which, what was heard, what was said."""
    when = datetime.fromtimestamp(record.started_at).strftime("%m-%d %H:%M:%S")
    answer = record.said or words("cli.turns.in_parentheses", what=_outcome(record, words))
    device = pad(record.device_id or words("page.turns.no_device"), 17)
    return f"{when}  {record.id}  {device}  {record.heard or '—'} → {answer}"


def in_full(record: TurnRecord, words: Words) -> str:
    """Everything that is known of one turn, for people."""
    from xiaozhi_hub.cli.waited import told_wait
    from xiaozhi_hub.cli.waterfall import draw, turn_spans

    outcome = _outcome(record, words)
    if record.error:
        outcome = words("cli.turns.failed", outcome=outcome, error=record.error)
    lines = [
        one_line(record, words),
        _titled("outcome", outcome, words),
        _titled("language", record.language, words),
    ]
    if record.wait is not None:
        lines.append(_titled("waited", told_wait(record.wait, record.heard, words), words))
    if record.confidence is not None:
        lines.append(_titled("confidence", f"{record.confidence:.2g}", words))
    for call in record.tool_calls:
        made = f"{call.name} {json.dumps(dict(call.arguments), ensure_ascii=False)}"
        told = words("cli.turns.call", call=made, result=call.error or call.result, ms=call.ms)
        lines.append(_titled("tool", told, words))
    return "\n".join([*lines, "", *draw(turn_spans(record.stamps, words))])


def _outcome(record: TurnRecord, words: Words) -> str:
    return words.named("page.outcome", record.outcome.value)


def _titled(title: str, text: str, words: Words) -> str:
    width = max(cells(words(f"cli.turns.label.{each}")) for each in _TITLES)
    return f"  {pad(words(f'cli.turns.label.{title}'), width)} {text}"


def facts(record: TurnRecord) -> dict[str, Any]:
    """A turn as JSON holds it, without its sound."""
    return {
        "id": record.id,
        "session_id": record.session_id,
        "device_id": record.device_id,
        "started_at": record.started_at,
        "channel": record.channel.value,
        "mode": record.mode,
        "assistant": record.assistant,
        "language": record.language,
        "heard": record.heard,
        "said": record.said,
        "outcome": record.outcome.value,
        "emotion": record.emotion,
        "confidence": record.confidence,
        "error": record.error,
        "wait": asdict(record.wait) if record.wait is not None else None,
        "stamps": dict(record.stamps),
        "tool_calls": [
            {"name": c.name, "arguments": dict(c.arguments), "result": c.result, "error": c.error, "ms": c.ms}
            for c in record.tool_calls
        ],
    }
