"""Where a test does not run."""

import pytest

from tests.support.here import ROOT

needs_root = pytest.mark.skipif(not ROOT, reason="needs root: becomes other users")
