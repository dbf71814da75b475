"""Gates: limits on the bounds of a run's intervals, judged pass, fail or inconclusive."""
