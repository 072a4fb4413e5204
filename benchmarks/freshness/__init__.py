"""How long it takes from somebody's last event to the adapter that it made theirs, on a whole daemon with its Ray."""
