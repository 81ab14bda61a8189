"""What holds for the options of every command: defaults in help, OUT either way."""

from collections.abc import Iterator
from dataclasses import fields

import click
import pytest
import typer
from commands import invoke
from test_cli import make_frames, names_of

from dmd3c_ros.cli.app import app

pytestmark = pytest.mark.usefixtures('wide_terminal')


def commands(command=None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    command = command or typer.main.get_command(app)
    if not hasattr(command, 'commands'):
        yield ' '.join(path), command
        return
    for name, child in command.commands.items():
        yield from commands(child, (*path, name))


def options_of(command: click.Command) -> dict[str, click.Parameter]:
    kept = (p for p in command.params if p.param_type_name == 'option')
    return {p.name: p for p in kept if p.name not in ('help', 'out_option')}


COMMANDS = dict(commands())


@pytest.mark.parametrize('name', COMMANDS)
def test_help_shows_the_default_of_every_option(name):
    for option in options_of(COMMANDS[name]).values():
        off = option.is_flag and option.default is False and not option.secondary_opts
        shown = isinstance(option.show_default, str) or (
            option.show_default and option.default is not None
        )
        assert option.required or off or shown, option.opts[0]


def homes() -> Iterator[tuple[str, object]]:
    """Commands, and the settings that their options stand for."""
    from dmd3c_ros.benchmarks.confidence import Drives
    from dmd3c_ros.benchmarks.motion import MovingRig
    from dmd3c_ros.benchmarks.soak.config import SoakConfig
    from dmd3c_ros.core.config import CompleterConfig
    from dmd3c_ros.datasets.drives import SimulatedDrive
    from dmd3c_ros.demo.config import DemoConfig
    from dmd3c_ros.pipeline.settings import MotionSettings, NodeSettings
    from dmd3c_ros.slam.odometry import OdometrySettings

    for settings in (CompleterConfig, NodeSettings, MotionSettings):
        yield 'complete bag', settings()
    yield 'demo', DemoConfig()
    yield 'bench soak', SoakConfig()
    yield 'bench confidence', Drives()
    yield 'bench motion', MovingRig()
    yield 'bench odometry', OdometrySettings()
    for name in ('bench odometry', 'bench slam'):
        yield name, SimulatedDrive()


def test_defaults_in_help_are_those_that_count():
    compared = 0
    for name, settings in homes():
        options = options_of(COMMANDS[name])
        for field in fields(settings):
            option, value = options.get(field.name), getattr(settings, field.name)
            if option is None or not isinstance(value, (bool, int, float, str)) or value == '':
                continue
            # Help says in words what these stand for.
            if field.name in ('model', 'filter_hidden_points', 'threads'):
                continue
            # Behind a semicolon: what counts for something else, such as a recorded drive.
            shown = str(option.show_default or '').partition(';')[0]
            if isinstance(value, bool):
                names = option.opts if value else option.secondary_opts
                assert f'--{shown}' in names or (not shown and not value), field.name
            else:
                assert shown == (f'{value:g}' if isinstance(value, float) else str(value)), (
                    field.name
                )
            compared += 1
    assert compared > 25


WRITING = [name for name, one in COMMANDS.items() if any(p.name == 'out' for p in one.params)]


@pytest.mark.parametrize('name', WRITING)
def test_every_output_is_both_a_word_and_an_option(name):
    shown = invoke(*name.split(), '--help')
    assert 'OUT' in shown
    assert '--out' in shown


def test_no_command_has_an_output_of_its_own_kind():
    for name, command in COMMANDS.items():
        outs = [p for p in command.params if '--out' in p.opts or p.name == 'out']
        assert len(outs) in (0, 2), name


def frames(root, *out: object, exit_code: int = 0) -> str:
    return invoke(
        'complete', 'frames', '--images', root / 'image', '--sparse', root / 'sparse',
        '--intrinsics', root / 'K.txt', '--model', 'nearest', *out, exit_code=exit_code,
    )  # fmt: skip


def test_output_is_taken_either_way_but_not_twice_nor_not_at_all(tmp_path):
    make_frames(tmp_path)
    for number, out in enumerate(((tmp_path / '0',), ('--out', tmp_path / '1'))):
        frames(tmp_path, *out)
        assert names_of(tmp_path / str(number)) == ['a.png', 'b.png', 'c.png']
    assert 'given twice' in frames(tmp_path, tmp_path / '2', '--out', tmp_path / '3', exit_code=2)
    assert 'OUT or --out OUT' in frames(tmp_path, exit_code=2)
    invoke('export', 'miniature', 'kitti-raw', '--out', tmp_path / 'mini', '--frames', 1)
    assert (tmp_path / 'mini').is_dir()
