"""Maildir: a directory with a file for each message (cr.yp.to/proto/maildir.html), without a lock."""
