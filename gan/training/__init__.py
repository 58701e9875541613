"""The training loop and what it needs: updates, checkpoints, the run folder, several processes."""
