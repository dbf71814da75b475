"""``schema``: the form of a scenario, for editors."""

from __future__ import annotations


def show_schema() -> None:
    """Print the JSON schema of a scenario, with every parameter of every plug-in.

    An editor with a YAML language server then completes keys, says what they mean and marks
    mistakes. Save it with `python -m harness schema > scenario.schema.json`, and begin each
    scenario beside it with the line `# yaml-language-server: $schema=scenario.schema.json`
    (`init` writes both).

    The schema knows the form only; `validate` also checks what goes together.
    """
    from harness.editor_schema import schema_text

    print(schema_text(), end="")
