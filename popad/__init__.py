"""popad: a POP3 server for systemd machines. One process serves one session on the connection it inherits."""

__version__ = "0.1.0"
