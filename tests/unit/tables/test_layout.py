"""Numbers as people read them."""

from __future__ import annotations

from amago_suite.presentation.layout import number


def test_a_rounded_zero_has_no_sign() -> None:
    """Guards the page: the gap of a solved task reads 0.000, not -0.000."""
    assert number(-1e-12) == "0.000"
    assert number(-0.25) == "-0.250"
    assert number(1234.5) == "1,234"
