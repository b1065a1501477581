"""Mechanisms (RFC 4422), one file each, and their table: what the auth helper hears of the preauth child, and decides.
Nothing is believed: a child may have been taken over.
"""
