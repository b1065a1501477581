"""Hostile children, helpers' clients, mail files and mail clients, against real processes."""
