"""The example of a dashboard of Grafana: what it asks Prometheus, and what Grafana's own library makes of it."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

from tests.support.environment import environment
from tests.support.here import CHECKOUT

PATH = CHECKOUT / "packaging/examples/grafana-dashboard.json"
# Of Grafana's publisher, made from the schemas of Grafana 11.6. Grafana itself is in no registry that tests can use.
LIBRARY = "grafana-foundation-sdk==1769699379!11.6.0"
# Reads a dashboard into the library's classes and prints what they then have.
THROUGH = """
import json, sys
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
register_default_plugins()
print(JSONEncoder().encode(Dashboard.from_json(json.load(sys.stdin))))
"""


def read() -> dict[str, Any]:
    """As it is."""
    found: dict[str, Any] = json.loads(PATH.read_text())
    return found


def expressions(**variables: str) -> Iterator[tuple[str, str]]:
    """The titles of panels, and what each asks, with the variables filled in; those of time are a minute."""
    variables = {"__rate_interval": "1m", "__range": "1m", **variables}
    for panel in read()["panels"]:
        for target in panel["targets"]:
            expression: str = target["expr"]
            for name, value in variables.items():
                expression = expression.replace(f"${name}", value)
            assert "$" not in expression
            yield panel["title"], expression


def through_the_library(dashboard: dict[str, Any]) -> Any:
    """What the library has kept of it. Raises CalledProcessError where it cannot be read, or had."""
    command = [str(environment("grafana", LIBRARY)), "-c", THROUGH]
    done = subprocess.run(command, input=json.dumps(dashboard), capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def lost(given: Any, kept: Any, place: str = "") -> Iterator[str]:
    """Where `kept` has not what was given; more is no loss."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for name, value in given.items():
            yield from lost(value, kept.get(name), f"{place}.{name}")
    elif isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        for number, (value, other) in enumerate(zip(given, kept, strict=True)):
            yield from lost(value, other, f"{place}[{number}]")
    elif given != kept and given != []:
        yield place
