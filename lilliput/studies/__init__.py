"""Many runs: the grid, its jobs, their judge, the rows."""
