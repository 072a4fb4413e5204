"""What becomes of users over time: people who change, people who do not, and how soon each is served right."""
