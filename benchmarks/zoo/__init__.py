"""The paper in miniature: about a hundred real LoRA adapters on tiny bases, and what a dock makes of them.

    slmdock bench zoo --data DIR [--scale tiny|small|paper]

Everything is real but the size: models trained here, served by vLLM with many adapters in a batch, taken in,
verified and chosen by the dock. ``docs/zoo.md`` holds what was measured.
"""
