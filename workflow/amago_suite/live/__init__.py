"""What a suite is doing now: its status, the live display of a run, the report that is served while cells finish."""
