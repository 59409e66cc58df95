from __future__ import annotations

import pytest

from lavis_clone.tasks.metrics.accuracy import accuracy, accuracy_by_class


def test_accuracy_is_a_share():
    assert accuracy([1, 2, 3, 3], [1, 2, 0, 0]) == 0.5
    assert accuracy(["a"], ["a"]) == 1.0


def test_by_class_in_order():
    found = accuracy_by_class([2, 0, 0, 1], [2, 0, 2, 0])
    assert found == {0: 0.5, 2: 0.5} and list(found) == [0, 2]


@pytest.mark.parametrize("score", [accuracy, accuracy_by_class])
def test_what_cannot_be_scored(score):
    with pytest.raises(ValueError, match="no predictions"):
        score([], [])
    with pytest.raises(ValueError, match="zip"):
        score([1], [1, 2])
