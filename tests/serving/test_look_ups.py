"""Look-ups are remembered for moments, and never past a write."""

import pytest

from serving.look_ups import KEEP_SECONDS, LookUps


def test_what_was_found_is_forgotten_in_time_and_at_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("serving.look_ups.time.monotonic", lambda: now)
    recent = LookUps[str]()
    recent.put("law", (1, 1), "found")
    assert recent.get("law", (1, 1)) == "found"
    assert recent.get("space", (1, 1)) is None
    assert recent.get("law", (2, 1)) is None
    assert recent.get("law", (1, 2)) is None
    now += KEEP_SECONDS + 0.1
    assert recent.get("law", (1, 1)) is None


def test_it_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.look_ups.MAX_ENTRIES", 3)
    recent = LookUps[int]()
    for number in range(10):
        recent.put(str(number), (0, 0), number)
    assert len(recent._kept) <= 3
    assert recent.get("9", (0, 0)) == 9
