"""What a training is told: recipes and their optimisers."""
