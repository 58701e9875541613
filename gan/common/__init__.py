"""The ground floor: files, randomness, ranks, pictures and the group's action, which all other packages stand on."""
