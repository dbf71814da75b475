"""The contract between systems, attacks, defences and the loop; imports nothing of ours."""
