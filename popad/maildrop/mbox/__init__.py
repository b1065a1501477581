"""mbox files as a store."""
