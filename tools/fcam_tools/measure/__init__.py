"""Numbers without a network: metrics, operating points, and what held-out pictures show."""
