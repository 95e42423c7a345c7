"""Errors of templates."""


class TemplateError(ValueError):
    """A template could not be parsed or expanded."""


class TemplateSyntaxError(TemplateError):
    """A template is not valid. *line* counts from 1."""

    def __init__(self, problem: str, line: int) -> None:
        self.problem = problem
        self.line = line
        super().__init__(f"line {line}: {problem}")


class ExpansionError(TemplateError):
    """A valid template cannot be expanded with these values."""
