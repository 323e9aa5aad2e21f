"""Training on trajectories: recipes, batches with the loss mask, and the loop."""
