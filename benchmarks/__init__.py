"""Speed and memory, each against its peer in one run; figures in RESULTS.md."""
