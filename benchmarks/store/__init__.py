"""What the store costs: rates on both databases, and what a million users change."""
