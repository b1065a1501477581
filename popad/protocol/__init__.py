"""POP3 (RFC 1939, 2449, 3206) as pure functions and tables: opens nothing, forks nothing, logs nothing."""
