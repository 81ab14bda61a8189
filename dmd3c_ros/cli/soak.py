"""`dmd3c bench soak`: the node through thousands of frames and all that goes wrong."""

from pathlib import Path
from typing import Annotated

import typer

from .options import JsonFile, given


def soak(
    frames: Annotated[int | None, typer.Option(show_default='20000', help='Good frames.')] = None,
    seed: Annotated[
        int | None, typer.Option(show_default='0', help='Random seed of the faults.')
    ] = None,
    model: Annotated[
        str | None, typer.Option(show_default='nearest', help='What completes.')
    ] = None,
    logs: Annotated[
        Path | None,
        typer.Option(show_default='not kept', help="Folder for the node's log."),
    ] = None,
    json: JsonFile = None,
) -> None:
    """Stress-test the node: malformed messages, clock jumps, restarts, bursts, subscribers.

    Every valid frame must be answered correctly. Needs ROS 2 and Linux; takes minutes for 20,000.
    """
    import tempfile

    from .console import fail, progress_bar, say, write_numbers

    try:
        from dmd3c_ros.benchmarks.soak.config import SoakConfig
        from dmd3c_ros.benchmarks.soak.driver import soak as run
        from dmd3c_ros.demo.config import DemoError
    except ImportError as error:
        raise fail(f'needs ROS 2 ({error})') from error
    try:
        config = SoakConfig(**given(frames=frames, seed=seed, model=model))
        with tempfile.TemporaryDirectory() as folder, progress_bar() as progress:
            task = progress.add_task('frames', total=config.frames)
            report = run(
                config, logs or Path(folder), lambda count: progress.update(task, completed=count)
            )
        say(report.to_text())
        if json is not None:
            write_numbers(json, report.to_dict())
    except (OSError, ValueError, DemoError) as error:
        raise fail(error) from error
    if report.answered < report.frames:
        raise fail(f'{report.frames - report.answered} frames were not answered correctly')
