"""One file a benchmark. Each prints the hardware, a table for people, and as its last line one JSON document.

Everything goes through the product's public functions. ``--data`` names a folder of the layout in ``data.py``.
"""
