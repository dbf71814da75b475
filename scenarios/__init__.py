"""The project's scenarios; ``python -m harness init`` copies some of them to start from."""
