"""Pictures of what popad shows of a busy machine: `python3 -m tests.gallery`."""
