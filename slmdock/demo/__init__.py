"""The demo dock: texts of our own and tiny models trained on them, so that everything runs with no hub."""
