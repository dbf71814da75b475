"""Numbers that a change of structure must not move.

``python -m tests.golden take FILE`` runs the smoke scenarios and `real.yaml` and writes a digest of
each cell's numbers; ``python -m tests.golden check FILE`` runs them again and names the cells that
moved. Digests are of the last bit, so they hold on one machine and are kept nowhere: take them
before the change. No test runs this.
"""
