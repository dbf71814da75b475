"""Real data sets, filtered, split and partitioned in one place."""
