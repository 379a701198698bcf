"""The coverage that labels claim."""

from amago_suite.analysis.coverage import AGGREGATE, coverage_label, coverage_of, coverage_rows


def test_labels_take_the_nearest_smaller_design() -> None:
    """Never promise the coverage of more runs or environments than there are."""
    assert coverage_of(3, 12) == AGGREGATE[3, 12]
    assert coverage_of(4, 11) == AGGREGATE[3, 6]
    assert coverage_of(1000, 1000) == AGGREGATE[20, 50]
    assert coverage_label(3, 1) == f"covers about {100 * AGGREGATE[3, 1]:.0f} %"
    assert [n for n, _ in coverage_rows()] == [3, 5, 10, 20]
    assert all(0.7 < c < 0.97 for c in AGGREGATE.values())
