import typer

app = typer.Typer()


def drill() -> None: ...
