"""Mail on disk: stores of numbered messages. Knows no POP3 command and no socket."""
