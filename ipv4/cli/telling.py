"""What a command tells while it runs: lines for people, or JSON for programs."""

import argparse
import json

__all__ = ["Teller", "add_json"]


def add_json(parser: argparse.ArgumentParser) -> None:
    """The option that has events told as JSON."""
    parser.add_argument(
        "--json", action="store_true", help="print a JSON object for each event instead, one a line"
    )


class Teller:
    """Tells each event in one of two ways.

    Parameters
    ----------
    as_json : bool
        Whether as a JSON object of the event's name and its facts, rather than as a sentence.
    """

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    def __call__(self, sentence: str, event: str, **facts: object) -> None:
        """Print an event; what JSON has no form for, such as an address, is told as text."""
        if self.as_json:
            sentence = json.dumps({"event": event, **facts}, default=str)
        print(sentence)
