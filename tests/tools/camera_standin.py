"""Stands in for `fcam bundle list|install|activate` in a camera's folder: its words, its JSON, its exit codes.

behave.json says what goes wrong: "install" and "activate" are refusals, "withdrawn" is what `list` says of the release,
"event" how `activate` ends, "sleep" how long it says nothing, "sleep_activate" how long that verb alone does, "list"
what it answers instead, "runs" which bundle its station judges with, in place of the active one.
"""

import argparse
import hashlib
import json
import sys
import tarfile
import time
from pathlib import Path

STATE = Path("state.json")


def refuse(reason: str) -> None:
    print("a warning of no weight", file=sys.stderr)
    sys.exit(f"fcam: {reason}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("noun", choices=["bundle"])
    parser.add_argument("verb", choices=["list", "install", "activate"])
    parser.add_argument("what", nargs="?")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--wait", type=int)
    parser.add_argument("--json", action="store_true", required=True)
    args = parser.parse_args()
    with Path("calls").open("a") as calls:
        calls.write(f"{args.verb}\n")
    how = json.loads(Path("behave.json").read_text()) if Path("behave.json").exists() else {}
    state = json.loads(STATE.read_text()) if STATE.exists() else {"active": "", "trial": False}
    time.sleep(how.get("sleep", 0) + how.get(f"sleep_{args.verb}", 0))
    if args.verb in how and args.verb != "list":
        if args.verb == "install":
            sys.stdin.buffer.read(1)
        refuse(how[args.verb])
    answer = {"list": listed, "install": install, "activate": activate}[args.verb](args, how, state)
    print(json.dumps(answer))


def listed(args: argparse.Namespace, how: dict, state: dict) -> object:
    if "list" in how:
        print(how["list"])
        sys.exit(0)
    files = sorted(args.store.glob("*.fcam")) if args.store.exists() else []
    if "withdrawn" in how and not files:
        files = [Path("parts.1.fcam")]
    entry = {"version": "1.0", "bytes": 0, "previous": False, "withdrawn": how.get("withdrawn"), "problem": None}
    ids = [file.stem for file in files]
    return [
        {"bundle": i, "active": i == state["active"], "trial": i == state["active"] and state["trial"], **entry}
        for i in ids
    ]


def install(args: argparse.Namespace, how: dict, state: dict) -> object:
    if args.what != "-":
        refuse(f"{args.what} was not sent")
    content = sys.stdin.buffer.read()
    args.store.mkdir(exist_ok=True)
    arriving = Path("arriving")
    arriving.write_bytes(content)
    with tarfile.open(arriving) as archive:
        member = archive.extractfile("bundle.tar.minisig")
        words = dict(word.partition("=")[::2] for word in member.read().decode().split()) if member else {}
    release = f"{words['name']}.{words['counter']}"
    place = args.store / f"{release}.fcam"
    if place.exists() and hashlib.sha256(place.read_bytes()).digest() != hashlib.sha256(content).digest():
        refuse(f"{release} was installed already, and this is another one: sign it with a higher counter")
    arriving.rename(place)
    return {"bundle": release, "again": False, "removed": []}


def activate(args: argparse.Namespace, how: dict, state: dict) -> object:
    event = how.get("event", "passed")
    if not (args.store / f"{args.what}.fcam").exists():
        refuse(f"{args.what} is not installed")
    answer = {"event": event, "bundle": args.what, "watched": 20, "job": 1}
    if how.get("runs", state["active"]) != args.what:
        print(json.dumps({"event": "proving", "bundle": args.what}))
    STATE.write_text(json.dumps({"active": args.what, "trial": event != "passed"}))
    return answer


main()
