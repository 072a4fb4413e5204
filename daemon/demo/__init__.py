"""The whole main job on this machine, with simulated or real people: `make demo`."""

import argparse
import sys


def main(options: argparse.Namespace) -> int:
    """Run the demo; `options.data` names a file of rows, or is None for simulated people.

    The last line on standard output is the path of the findings; with `options.json` it is the findings themselves and
    all that is for people goes to standard error.
    """
    from rich.console import Console  # noqa: PLC0415 - the other commands do without it, and without torch

    from daemon.demo.show import run  # noqa: PLC0415

    path = run(options.data, Console(highlight=False, stderr=options.json))
    sys.stdout.write(path.read_text() if options.json else f"{path}\n")
    return 0
