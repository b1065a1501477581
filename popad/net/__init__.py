"""How a client arrives: its connection, who hands it over, and the rules that let it in."""
