"""Processes that know little: channels between them, roles forked into them, identities dropped for good."""
