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

if TYPE_CHECKING:
    from xiaozhi_hub.core.flow import TurnRecord
    from xiaozhi_hub.store.history import History
    from xiaozhi_hub.store.photos import Photos


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("turns", help="show what was said and done", description=__doc__)
    parser.add_argument("id", nargs="?", help="show this turn with its messages, tool calls and waterfall")
    add_config(parser)
    parser.add_argument("--device", metavar="ID", help="only turns of this device")
    parser.add_argument("--limit", type=int, default=20, metavar="N", help="how many turns to list (default: 20)")
    parser.add_argument("--json", action="store_true", help="print JSON, one object for each turn")
    parser.add_argument("--save-audio", type=Path, metavar="DIR", help="copy the recordings of the turn there")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Read the database beside a hub that may be running. Returns 1 when there is no such turn or no history."""
    from xiaozhi_hub.core.config import load_config
    from xiaozhi_hub.errors import HubError

    try:
        config = load_config(args.config.resolve())
        return asyncio.run(_show(config.data_dir, args))
    except HubError as error:
        print(f"xiaozhi-hub: {error}", file=sys.stderr)
        return 1


async def _show(data_dir: Path, args: argparse.Namespace) -> int:
    from xiaozhi_hub.audio.ogg import write_ogg
    from xiaozhi_hub.store.database import Database
    from xiaozhi_hub.store.history import History
    from xiaozhi_hub.store.photos import Photos

    database = Database(data_dir / "hub.db", read_only=True)
    await database.open()
    try:
        history = History(database, data_dir / "audio", write_ogg)
        if args.id:
            return await _show_one(history, Photos(database, data_dir / "photos", keep=False), args)
        for record in await history.turns(args.limit, args.device):
            print(json.dumps(facts(record), ensure_ascii=False) if args.json else one_line(record))
        return 0
    finally:
        await database.close()


async def _show_one(history: History, photos: Photos, args: argparse.Namespace) -> int:
    record = await history.turn(args.id)
    if record is None:
        print(f"xiaozhi-hub: there is no turn {args.id}. List them: xiaozhi-hub turns", file=sys.stderr)
        return 1
    print(json.dumps(facts(record), ensure_ascii=False, indent=1) if args.json else in_full(record))
    if not args.json:
        for photo in await photos.of_turn(record.id):
            print(f"  photo      {photos.path(photo.file)}  {photo.question} → {photo.answer}")
    if args.save_audio:
        await _save_audio(history, record.id, args.save_audio)
    return 0


async def _save_audio(history: History, turn_id: str, folder: Path) -> None:
    audio = await history.audio(turn_id)
    found = [(path, name) for path, name in ((audio.heard, "heard"), (audio.said, "said")) if path is not None]

    def copy() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for path, name in found:
            shutil.copyfile(path, folder / f"{turn_id}-{name}.ogg")

    await asyncio.to_thread(copy)
    if not found:
        print("No sound of this turn was kept.", file=sys.stderr)
    for _, name in found:
        print(folder / f"{turn_id}-{name}.ogg")


def one_line(record: TurnRecord) -> str:
    """A turn in a list: when, which, what was heard, what was said."""
    when = datetime.fromtimestamp(record.started_at).strftime("%m-%d %H:%M:%S")
    answer = record.said or f"({record.outcome.value})"
    return f"{when}  {record.id}  {record.device_id or 'text':17}  {record.heard or '—'} → {answer}"


def in_full(record: TurnRecord) -> str:
    """Everything that is known of one turn, for people."""
    from xiaozhi_hub.cli.waited import told_wait
    from xiaozhi_hub.cli.waterfall import draw, turn_spans

    lines = [
        one_line(record),
        f"  outcome    {record.outcome.value}{f' ({record.error})' if record.error else ''}",
        f"  language   {record.language}",
    ]
    if record.wait is not None:
        lines.append(f"  waited     {told_wait(record.wait, record.heard)}")
    if record.confidence is not None:
        lines.append(f"  confidence {record.confidence:.2g}")
    for call in record.tool_calls:
        arguments = json.dumps(dict(call.arguments), ensure_ascii=False)
        lines.append(f"  tool       {call.name} {arguments} → {call.error or call.result} ({call.ms:.0f} ms)")
    return "\n".join([*lines, "", *draw(turn_spans(record.stamps))])


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
