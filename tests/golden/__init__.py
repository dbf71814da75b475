"""Numbers that a change of structure must not move.

``python -m tests.golden take FILE`` runs the smoke scenarios and `real.yaml` and writes a digest of
each cell's numbers; ``python -m tests.golden check FILE`` runs them again and names the cells that
moved. Digests are of the last bit, so they hold on one machine; `numbers.json` beside this module
holds a few rounded numbers that hold on all, and `test_golden.py` checks those.
"""
