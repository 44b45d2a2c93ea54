"""The tiny dock and gateway of the tests of ``serving``."""

from tests.serving.conftest import adapters, base, dock, free_url, serving, sketch

__all__ = ["adapters", "base", "dock", "free_url", "serving", "sketch"]
