"""A host of a classifier: python examples/classification_host.py USER TEXT [--right LABEL] [--local FOLDER]

Asks what USER would say of TEXT. `--right` corrects the answer, which teaches the user's adapter. `--local` answers
here instead, by the frozen model in FOLDER with the user's adapter plugged in: the daemon then sees no text.
"""

import argparse
import os

import plora
from plora.client import Client


def main() -> None:
    given = _parsed()
    with Client(os.environ["PLORA_URL"], os.environ["PLORA_TOKEN"], source="/examples/classification") as daemon:
        if given.local:
            print(answer_here(daemon, given.local, given.user, given.text))
            return
        [answer] = daemon.predict([(given.user, given.text)], why=True)
        if answer.held:
            print(f"held: {answer.hold_reason}; one of {[label for label, _ in answer.alternatives]}")
        else:
            whose = f"version {answer.version}" if answer.version else "the generic model"
            print(f"{answer.label} ({answer.confidence:.2f}, {whose})")
        for reason in answer.reasons:
            print(f"  {reason.nats:+.2f} nats from {reason.label!r}: {reason.text!r}")
        if given.right:
            daemon.correct(answer.token, given.right, text=given.text)


def answer_here(daemon: Client, folder: str, user: str, text: str) -> str:
    """The same answer without sending the text anywhere."""
    base, basis = plora.load(folder), daemon.basis()
    [answer] = plora.predict(base, basis, [text], daemon.adapters([user]))
    return f"{answer.answer} ({answer.confidence:.2f})"


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Ask what a user would say of a text.")
    parser.add_argument("user")
    parser.add_argument("text")
    parser.add_argument("--right", help="the label that would have been right")
    parser.add_argument("--local", help="folder of the base model: answer here")
    return parser.parse_args()


if __name__ == "__main__":
    main()
