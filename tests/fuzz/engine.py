"""One target under atheris: popad's modules are instrumented, libFuzzer chooses the inputs. campaign.py starts it."""

import importlib
import sys
from typing import Any


def main() -> None:
    """The first word names the target, the others are libFuzzer's."""
    atheris: Any = importlib.import_module("atheris")  # in its own virtual environment only
    name, *options = sys.argv[1:]
    with atheris.instrument_imports(include=["popad"]):
        target = importlib.import_module(f"tests.fuzz.{name}")
    atheris.Setup([sys.argv[0], *options], target.try_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
