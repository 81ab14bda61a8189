"""Fixtures that several test modules share."""

import os
import subprocess
from pathlib import Path

import pytest

# Before PyTorch is imported, here or in a child. Threads of several processes on the same cores
# wait for each other at the end of every loop, which takes ten times the processor's time; and
# sums over another number of threads differ in their last digits.
os.environ.setdefault('OMP_NUM_THREADS', '1')
# Tests import it before the package does, which sets this itself.
os.environ.setdefault('ORT_DISABLE_TELEMETRY', '1')

_KITTI = Path('data/kitti_raw_mini/2011_09_26/2011_09_26_drive_0000_sync')


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error) -> None:
    """How a test process ended that crashed: xdist tells only that it is gone."""
    if error:
        try:
            status = node.gateway._io.popen.wait(10)
        except subprocess.TimeoutExpired:
            status = 'none: it is still running'
        report = node.config.pluginmanager.getplugin('terminalreporter').write_line
        report(f'[{node.gateway.id}] exit status (a signal is negative): {status}')


@pytest.fixture(scope='session')
def kitti_drive() -> Path:
    """Folder of a real KITTI raw drive; the test is skipped where there is none."""
    shared = Path(
        os.environ.get('DMD3C_SHARED', Path(__file__).resolve().parents[1].parent / 'shared')
    )
    drive = shared / _KITTI
    if not drive.is_dir():
        pytest.skip(f'no KITTI raw drive at {drive} (set DMD3C_SHARED to the folder above data/)')
    return drive


@pytest.fixture(autouse=True)
def no_conversion(monkeypatch) -> None:
    """PyTorch runs the networks: converting each takes seconds, and has tests of its own.

    Nodes in processes of their own run as they do everywhere.
    """
    monkeypatch.setattr('dmd3c_ros.core.openvino_runner.is_installed', lambda: False)


@pytest.fixture
def wide_terminal(monkeypatch) -> None:
    """Messages are searched for names and numbers, which a narrow terminal would break."""
    monkeypatch.setenv('COLUMNS', '400')
    monkeypatch.setenv('TERM', 'dumb')


@pytest.fixture
def cache_home(monkeypatch, tmp_path: Path) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    return tmp_path / 'cache'


# These need ROS, which is imported only for the tests that ask for it.


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """Folder for the logs of nodes; the module's nodes have a ROS graph of their own."""
    import ros_graph

    folder = tmp_path_factory.mktemp('ros')
    # One cache for all modules: converting the light network takes a node 5 s.
    ros_graph.isolate(folder, tmp_path_factory.getbasetemp() / 'cache of nodes')
    return folder


@pytest.fixture(scope='module')
def context(folder):
    """A context for nodes in the tests' own process."""
    import rclpy

    context = rclpy.context.Context()
    rclpy.init(context=context)
    yield context
    rclpy.shutdown(context=context)


@pytest.fixture
def probe(folder):
    """A publisher of the node's inputs, and a listener to what comes of them."""
    import ros_graph

    probe = ros_graph.Probe()
    yield probe
    probe.close()
