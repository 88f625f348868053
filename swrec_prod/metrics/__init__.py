"""How good predictions are: exact figures from labels and logits. numpy only.

- A weight w counts a row as w rows would: each figure with whole weights is that of the rows repeated. Rows of weight 0
  do not count.
- A figure that has no value (one class, no rows) raises MetricError, and is null with its reason in summary.py.
"""
