"""The whole main job on this machine, with simulated or real people: `make demo`."""

import argparse


def main(options: argparse.Namespace) -> int:
    """Run the demo; `options.data` names a file of rows, or is None for simulated people."""
    from daemon.demo.show import run  # noqa: PLC0415 - the other commands do without torch

    return run(options.data)
