"""The federation: clients as a batch axis, rounds, roles, guard, recorder."""
