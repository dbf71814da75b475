"""Reading a scenario: YAML with positions, layers of it, and every problem in words."""
