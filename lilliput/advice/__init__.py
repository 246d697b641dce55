"""Which technique, which network, how long: a search by halving within a budget, and the answer with its error."""
