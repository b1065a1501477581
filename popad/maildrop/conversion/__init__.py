"""A maildrop made anew in the other format: mbox to Maildir and back, while the one that there is stays as it was."""
