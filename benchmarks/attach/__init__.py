"""What it takes until a user's adapter answers, and what a batch of many users costs, beside PEFT."""
