"""`popad report` and `popad metrics`: entries are read (journal, logfmt), counted (totals, figures), and shown."""
