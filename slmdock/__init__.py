"""SLM Dock: the command line, and the demo that shows the rooms together."""
