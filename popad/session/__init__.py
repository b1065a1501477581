"""One session: the monitor, which is root until the login, and what it starts and becomes."""
