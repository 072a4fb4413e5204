"""The command line. `serve` and `demo` run here; most other commands ask the running daemon over HTTP.

Exit status: 0 done, 1 refused or wrong, 2 no daemon is running (or, from argparse, a wrong command line).
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence

from daemon import settings as settings_module
from daemon.caller_commands import add_callers, add_tenants
from daemon.client import DaemonAway
from daemon.command_line import AWAY, REFUSED, group, local, remote
from daemon.custody_commands import add_audit, add_backups, add_erasures, add_keys
from daemon.errors import DaemonError
from daemon.operating_commands import add_config, add_migrate, add_operating
from daemon.rollout_commands import add_rollouts
from daemon.run_commands import add_basis, add_runs, add_users
from daemon.settings import Settings
from storage import StorageError


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run one command and return the exit status. Says one clear sentence instead of a traceback."""
    options = parser().parse_args(arguments)
    try:
        settings = settings_module.load(environ)
        run: Callable[[argparse.Namespace, Settings], int] = options.run
        return run(options, settings)
    except DaemonAway as away:
        print(f"plora: {away}", file=sys.stderr)
        return AWAY
    except (DaemonError, StorageError) as error:
        print(f"plora: {error}", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        return 130


def parser() -> argparse.ArgumentParser:
    """Every command with its options."""
    top = argparse.ArgumentParser(
        prog="python -m daemon", description="Tiny encrypted adapters for the users of one model."
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    local(commands, "serve", "run the daemon until SIGTERM", _serve)
    local(commands, "ingest", "take events from a broker to the daemon until SIGTERM", _ingest)
    demo = local(commands, "demo", "show the whole main job on simulated or real data", _demo)
    demo.add_argument("--data", help="real rows instead: a .jsonl or .jsonl.gz of user, text, label[, split]")
    add_users(commands)
    add_rollouts(commands)
    add_runs(commands)
    add_basis(commands)
    add_operating(commands)
    add_config(commands)
    add_migrate(commands)
    add_erasures(commands)
    add_backups(commands)
    add_keys(commands)
    add_audit(commands)
    add_callers(group(commands, "callers", "who may ask"), remote)
    add_tenants(group(commands, "tenants", "closed worlds"), remote)
    return top


def _serve(options: argparse.Namespace, settings: Settings) -> int:
    from daemon.server import serve  # noqa: PLC0415 - the other commands do without the server's imports

    return serve(settings, as_json=options.json)


def _ingest(_: argparse.Namespace, settings: Settings) -> int:
    from daemon.ingest.process import consume  # noqa: PLC0415

    return consume(settings)


def _demo(options: argparse.Namespace, _: Settings) -> int:
    from daemon import demo  # noqa: PLC0415

    return int(demo.main(options))
