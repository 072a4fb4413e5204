"""What it takes to serve so many users: measured unit costs, multiplied line by line."""
