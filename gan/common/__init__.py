"""What all other packages use: files, randomness, ranks, pictures and the group's action."""
