"""How good depth is: metrics, protocols of data sets, reports."""
