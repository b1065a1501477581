"""How long tests wait for what must come. Nobody waits so long on purpose: a test fails instead of hanging."""

import time
from collections.abc import Callable

# Seconds. Many times what the slowest step takes, as another build may have the machine at the same time.
PATIENCE = 120.0


def wait_until(holds: Callable[[], object], timeout: float = PATIENCE, pause: float = 0.01) -> None:
    """Return as soon as `holds()`, which nothing announces, is true; a failure after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"not so after {timeout:.0f} s")
        time.sleep(pause)
