"""Who may log in, and as whom. Runs in the authentication helper: knows passwords, never mail or a client's socket."""
