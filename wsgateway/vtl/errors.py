"""What can be wrong with a mapping template: its text, or what it does with a message."""

from __future__ import annotations


class InvalidTemplate(ValueError):
    """A template that cannot be compiled.

    Attributes:
        line: Where it goes wrong, counted from 1.
        column: Likewise.
        problem: What is wrong.
        remedy: What would be right.
    """

    def __init__(self, line: int, column: int, problem: str, remedy: str) -> None:
        super().__init__(line, column, problem, remedy)
        self.line = line
        self.column = column
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        """One sentence, for whoever wrote the template."""
        return (
            f"the mapping template goes wrong at line {self.line}, column {self.column}: "
            f"{self.problem}; {self.remedy}"
        )


class TemplateFault(Exception):
    """A template that cannot be rendered with these values.

    Attributes:
        line: The line being rendered, counted from 1.
        problem: What went wrong: a method's complaint, or the budget that is used up.
    """

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(line, problem)
        self.line = line
        self.problem = problem

    def __str__(self) -> str:
        """One sentence, for the log."""
        return f"the mapping template fails at line {self.line}: {self.problem}"
