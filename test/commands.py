"""The `dmd3c` command in the process of the test."""

from pathlib import Path

from typer.testing import CliRunner

from dmd3c_ros.cli.app import app


def invoke(*arguments: object, exit_code: int = 0) -> str:
    """What the command printed; it must end with this exit code."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == exit_code, result.output
    return result.output


def complete(bag: Path, out: Path, *options: object, exit_code: int = 0) -> str:
    """What `complete bag` printed, with the nearest neighbour as its model."""
    return invoke('complete', 'bag', bag, out, '--model', 'nearest', *options, exit_code=exit_code)
