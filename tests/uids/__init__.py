"""Unique-ids over the life of a mailbox: histories of deliveries, mail readers, two POP3 clients, lost caches."""
