"""How long tests wait for what must come. Nobody waits so long on purpose: a test fails instead of hanging."""

# Seconds. Many times what the slowest step takes, as another build may have the machine at the same time.
PATIENCE = 120.0
