"""The commands about keys, backups, receipts and the audit log."""

import argparse
from pathlib import Path

from daemon import custody
from daemon.client import Request
from daemon.command_line import Commands, ask, group, kept, local, remote, say


def add_keys(commands: "Commands[argparse.ArgumentParser]") -> None:
    """`keys status|rotate|roll-epoch|make|next`."""
    actions = group(commands, "keys", "the key ring")
    remote(actions, "status", "list the key epochs", lambda _: Request("GET", ("keys",)))
    about = "make a new key epoch and rewrap every data key"
    remote(actions, "rotate", about, lambda _: Request("POST", ("keys", "rotate")))
    about = "rotate, and destroy the old epochs"
    remote(actions, "roll-epoch", about, lambda _: Request("POST", ("keys", "roll-epoch")))
    about = "make a whole key ring in an empty directory, to be mounted as a Secret"
    make = kept(actions, "make", about, lambda options, settings: custody.make_keys(settings, options.to))
    make.add_argument("--to", type=Path, required=True, help="a new or empty directory")
    about = "add a key epoch to the ring in a directory, of which a Secret is made"
    following = kept(actions, "next", about, lambda options, settings: custody.next_epoch(settings, options.to))
    following.add_argument("--to", type=Path, required=True, help="the directory that `keys make` filled")


def add_erasures(commands: "Commands[argparse.ArgumentParser]") -> None:
    """`erasures list|verify`."""
    actions = group(commands, "erasures", "receipts of forgotten users")
    listing = remote(
        actions,
        "list",
        "list them, newest first",
        lambda options: Request("GET", ("erasures",), {"limit": options.limit}),
    )
    listing.add_argument("--limit", type=int, default=100)
    verify = kept(
        actions,
        "verify",
        "check a receipt by the public key alone",
        lambda options, _: custody.verify_receipt(options.file, options.key),
    )
    verify.add_argument("file", type=Path, help="the JSON that forgetting answered")
    verify.add_argument("--key", required=True, help="the public key, from `audit export-key`")


def add_audit(commands: "Commands[argparse.ArgumentParser]") -> None:
    """`audit verify|accept-restore|export-key`."""
    actions = group(commands, "audit", "the audit log")
    verify = local(
        actions,
        "verify",
        "hold the audit log against its chain, checkpoints and exports",
        lambda options, settings: (
            say(options, custody.verify_offline(settings, options.exports, options.key))
            if options.exports
            else ask(options, settings, Request("GET", ("audit", "verify")))
        ),
    )
    verify.add_argument("--exports", help="without the daemon: hold its stopped database against this place")
    verify.add_argument("--key", default="", help="with --exports: the public key; default: that of the key directory")
    kept(
        actions,
        "accept-restore",
        "state that the stopped database is a backup that was put back",
        lambda _, settings: custody.accept_restore(settings),
    )
    kept(
        actions,
        "export-key",
        "print the public key of receipts and checkpoints",
        lambda _, settings: custody.export_key(settings),
    )


def add_backups(commands: "Commands[argparse.ArgumentParser]") -> None:
    """`backup` and `restore`."""
    backup = kept(
        commands,
        "backup",
        "copy database and blobs, never the keys",
        lambda options, settings: custody.back_up(settings, options.to),
    )
    backup.add_argument("--to", type=Path, required=True, help="a new directory")
    restore = kept(
        commands,
        "restore",
        "put a backup back into an empty data directory",
        lambda options, settings: custody.restore(settings, options.source),
    )
    restore.add_argument("--from", dest="source", type=Path, required=True, help="the directory of a backup")
