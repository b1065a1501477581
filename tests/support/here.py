"""Where the tests run: the checkout, the cache of what they download or build, and whether as root."""

import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("POPAD_TEST_CACHE") or "/var/cache/popad-tests")
ROOT = os.geteuid() == 0
