"""TLS: certificates and keys, the helper that has them, the relay it runs, and how a session asks for one."""
