"""The standalone daemon (`popad -D`)."""
