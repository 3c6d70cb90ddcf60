"""What {{name}} answers."""


def answer(path: str) -> tuple[int, str]:
    """Status and text for a path."""
    if path == "/":
        return 200, "Hello from {{name}}!\n"
    return 404, "not found\n"
