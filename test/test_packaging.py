"""Every way to install the package gives its modules, executables, launch files and weights."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
EXECUTABLES = {
    'bag_player',
    'completion_node',
    'completion_rviz',
    'dmd3c',
    'droid_feeder',
    'kitti_player',
    'sim_player',
}
SHARED_FILES = {
    'launch': 'launch/*.launch.py',
    'config': 'config/*',
}
SOURCES = (
    'LICENSE',
    'config',
    'dmd3c_ros',
    'launch',
    'package.xml',
    'pyproject.toml',
    'resource',
    'setup.cfg',
    'setup.py',
)

# Modules whose packages have another name, for rosdep and for pip; with one name, that of a ROS
# package, which pip_ros/ and the wheels of requirements.txt stand for or do without. Those with
# None are for pip alone: the distribution has none, or too old ones, or only commands for a
# workstation use them.
PACKAGES = {
    'PIL': ('python3-pil', 'pillow'),
    'apsw': (None, 'apsw'),
    'cv2': ('python3-opencv', 'opencv-python-headless'),
    'evo': (None, 'evo'),
    'h5py': ('python3-h5py', 'h5py'),
    'kiss_icp': (None, 'kiss-icp'),
    'matplotlib': ('python3-matplotlib', 'matplotlib'),
    'numpy': ('python3-numpy', 'numpy'),
    'onnxruntime': (None, 'onnxruntime'),
    'openvino': (None, 'openvino'),
    'open3d': (None, 'open3d'),
    # Casts rays in Open3D's place on machines that only train (training/requirements.txt).
    'embreex': (None, None),
    'rerun': (None, 'rerun-sdk'),
    'rich': ('python3-rich', 'rich'),
    'rosbags': (None, 'rosbags'),
    'safetensors': (None, 'safetensors'),
    'scipy': ('python3-scipy', 'scipy'),
    'tf2_ros': ('tf2_ros_py', None),
    'torch': (None, 'torch'),
    'typer': ('python3-typer', 'typer'),
    'yaml': ('python3-yaml', 'pyyaml'),
}

# Run with an installation: which modules, weights and functions does it give?
PROBE = """
import json
from importlib.metadata import distribution
import dmd3c_ros
from dmd3c_ros.core.weights.releases import WEIGHTS_FOLDER

points = [e for e in distribution('dmd3c_ros').entry_points if e.group == 'console_scripts']
print(json.dumps({
    'module': dmd3c_ros.__file__,
    'weights': {p.name: p.stat().st_size for p in WEIGHTS_FOLDER.iterdir()},
    'callable': sorted(e.name for e in points if callable(e.load())),
}))
"""

# What setup.py says, without building anything.
METADATA = """
import json, setuptools
from distutils.core import run_setup
d = run_setup('setup.py', stop_after='init')
print(json.dumps({
    'name': d.get_name(), 'version': d.get_version(), 'license': d.get_license(),
    'requires': d.install_requires + [r for extra in d.extras_require.values() for r in extra],
}))
"""


@dataclass(frozen=True)
class Installation:
    """An installed package: its prefix and the shell code that makes it the one in use."""

    prefix: Path
    activation: str

    def run(self, *command: str) -> str:
        """Standard output of a command run with the installation, away from the repository."""
        script = f'{self.activation}\nexec "$@"'
        return run(['bash', '-c', script, 'bash', *command], cwd=self.prefix)


def run(command: list, cwd: Path) -> str:
    # The tests themselves may run with the repository or another installation on the path, on
    # which ROS is too.
    path = os.environ.get('PYTHONPATH', '').split(os.pathsep)
    others = [entry for entry in path if not Path(entry, 'dmd3c_ros').exists()]
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(others)}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=170
    )
    assert done.returncode == 0, f'{command}: {done.returncode}\n{done.stdout}\n{done.stderr}'
    return done.stdout


@pytest.fixture(scope='module')
def workspace(tmp_path_factory) -> Path:
    """A colcon workspace with a copy of what a build reads: builds write beside their sources."""
    root = tmp_path_factory.mktemp('workspace')
    package = root / 'src' / 'dmd3c_ros'
    package.mkdir(parents=True)
    for path in map(REPOSITORY.joinpath, SOURCES):
        if path.is_dir():
            ignored = shutil.ignore_patterns('__pycache__')
            shutil.copytree(path, package / path.name, ignore=ignored)
        else:
            shutil.copy(path, package)
    return root


def colcon_build(workspace: Path, name: str, *options: str) -> Installation:
    colcon = shutil.which('colcon', path=f'{Path(sys.executable).parent}:{os.environ["PATH"]}')
    if colcon is None:
        pytest.skip('colcon is not installed')
    places = ('--build-base', f'build_{name}', '--install-base', f'install_{name}')
    log = ('--log-base', f'log_{name}')
    run([colcon, *log, 'build', '--base-paths', 'src', *places, *options], cwd=workspace)
    install = workspace / f'install_{name}'
    return Installation(install / 'dmd3c_ros', f'source {install}/setup.bash')


def pip_install(workspace: Path) -> Installation:
    target = workspace / 'target'
    pip = (sys.executable, '-m', 'pip', '--quiet', '--disable-pip-version-check', 'install')
    options = ('--no-deps', '--no-index', '--no-build-isolation', '--target', target)
    run([*pip, *options, workspace / 'src' / 'dmd3c_ros'], cwd=workspace)
    return Installation(target, f'export PYTHONPATH={target}${{PYTHONPATH:+:$PYTHONPATH}}')


def test_an_installation_runs_with_the_ros_of_these_tests_but_not_with_their_package(
    tmp_path, monkeypatch
):
    (tmp_path / 'of_ros.py').write_text('')
    monkeypatch.setenv('PYTHONPATH', f'{REPOSITORY}{os.pathsep}{tmp_path}')
    # In an environment where the package itself is installed it is found all the same.
    paths = 'import os, of_ros; print(os.environ["PYTHONPATH"])'
    assert run([sys.executable, '-c', paths], cwd=tmp_path).strip() == str(tmp_path)


@pytest.fixture(scope='module', params=['colcon', 'colcon --symlink-install', 'pip'])
def installation(request, workspace) -> Installation:
    if request.param == 'pip':
        return pip_install(workspace)
    if request.param == 'colcon':
        return colcon_build(workspace, 'copies')
    return colcon_build(workspace, 'symlinks', '--symlink-install')


def test_an_installed_package_runs_with_its_own_modules_and_weights(installation, workspace):
    seen = json.loads(installation.run(sys.executable, '-c', PROBE))
    assert workspace in Path(seen['module']).parents
    assert set(seen['callable']) == EXECUTABLES
    weights = (REPOSITORY / 'dmd3c_ros' / 'weights').iterdir()
    assert seen['weights'] == {p.name: p.stat().st_size for p in weights}
    assert 'light.pth' in seen['weights']


def test_executables_are_where_ros_or_the_shell_looks_for_them(installation):
    places = [installation.prefix / 'lib' / 'dmd3c_ros', installation.prefix / 'bin']
    folder = next(place for place in places if place.is_dir())
    assert {p.name for p in folder.iterdir() if os.access(p, os.X_OK)} >= EXECUTABLES
    assert 'complete' in installation.run(sys.executable, str(folder / 'dmd3c'), '--help')


def test_executables_run_with_the_python_that_built_them(installation):
    """So that those of a virtual environment find its packages, whether it is active or not."""
    for name in EXECUTABLES:
        (path,) = (p for p in installation.prefix.glob(f'*/**/{name}') if os.access(p, os.X_OK))
        assert path.read_text().splitlines()[0] == f'#!{sys.executable}'


STUB = """#!/bin/sh
echo "$(basename "$0") $*" >> "{log}"
case "$*" in "-m venv "*) mkdir -p venv/bin && cp "$0" venv/bin/python3;; esac
"""


def test_the_script_for_a_ros_machine_installs_beside_the_distribution(tmp_path):
    package, log = tmp_path / 'ws/src/dmd3c_ros', tmp_path / 'log'
    package.mkdir(parents=True)
    shutil.copytree(REPOSITORY / 'docs', package / 'docs')
    for name in ('rosdep', 'python3'):
        (tmp_path / name).write_text(STUB.format(log=log))
        (tmp_path / name).chmod(0o755)
    script = [package / 'docs/install_ros.sh', '--event-handlers', 'console_direct+']
    environment = {**os.environ, 'PATH': f'{tmp_path}:{os.environ["PATH"]}', 'ROS_DISTRO': 'jazzy'}

    def install(cwd: Path, **changes: str) -> subprocess.CompletedProcess:
        log.write_text('')
        return subprocess.run(
            script, cwd=cwd, env=environment | changes, capture_output=True, text=True, check=False
        )

    done = install(tmp_path / 'ws')
    assert done.returncode == 0, done.stderr
    steps = log.read_text().splitlines()
    assert [step.split()[:3] for step in steps] == [
        ['rosdep', 'install', '--from-paths'],
        ['python3', '-m', 'venv'],
        ['python3', '-m', 'pip'],
        ['python3', '-m', 'colcon'],
    ]
    assert '--system-site-packages' in steps[1] and 'rosbags-image' in steps[2]
    assert steps[3].endswith('--symlink-install --event-handlers console_direct+')
    assert (tmp_path / 'ws/venv/COLCON_IGNORE').exists()
    assert install(tmp_path / 'ws').returncode == 0
    assert 'venv' not in log.read_text().partition('pip')[0], 'the environment is kept'
    for cwd, changes, text in (
        (tmp_path, {}, 'expected to be run in the workspace whose src/ holds'),
        (tmp_path / 'ws', {'ROS_DISTRO': ''}, 'expected ROS 2 to be sourced'),
    ):
        done = install(cwd, **changes)
        assert done.returncode == 1 and text in done.stderr
        assert not log.read_text()


def test_shared_files_are_installed_and_the_package_is_indexed(installation):
    share = installation.prefix / 'share'
    for name, pattern in SHARED_FILES.items():
        expected = {p.name: p.read_bytes() for p in REPOSITORY.glob(pattern) if p.is_file()}
        folder = share / 'dmd3c_ros' / name
        assert expected
        assert {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()} == expected
    assert (share / 'dmd3c_ros' / 'package.xml').is_file()
    assert (share / 'ament_index' / 'resource_index' / 'packages' / 'dmd3c_ros').is_file()


def test_tests_are_collected_without_the_plugins_of_ros(tmp_path, monkeypatch):
    """launch_testing takes a module that is skipped for the end of the whole collection."""
    (tmp_path / 'plugin_of_ros.py').write_text('raise SystemExit("the plugin is loaded")')
    (tmp_path / 'launch-1.dist-info').mkdir()
    (tmp_path / 'launch-1.dist-info/METADATA').write_text('Name: launch\nVersion: 1\n')
    (tmp_path / 'launch-1.dist-info/entry_points.txt').write_text(
        '[pytest11]\nlaunch_testing = plugin_of_ros\nlaunch_ros = plugin_of_ros\n'
    )
    monkeypatch.setenv('PYTHONPATH', str(tmp_path), prepend=os.pathsep)
    # In which colcon test has its options.
    monkeypatch.delenv('PYTEST_ADDOPTS', raising=False)
    command = [sys.executable, '-m', 'pytest', '--collect-only', '-q', 'test/test_camera.py']
    assert 'test_camera.py::' in run(command, cwd=REPOSITORY)


@pytest.fixture(scope='module')
def manifest() -> ElementTree.Element:
    return ElementTree.parse(REPOSITORY / 'package.xml').getroot()


@pytest.fixture(scope='module')
def metadata() -> dict:
    return json.loads(run([sys.executable, '-c', METADATA], cwd=REPOSITORY))


def test_the_manifest_and_the_distribution_are_one_package(manifest, metadata):
    assert manifest.get('format') == '3'
    assert manifest.findtext('export/build_type') == 'ament_python'
    for key in ('name', 'version', 'license'):
        assert manifest.findtext(key) == metadata[key], key
    licence = REPOSITORY / manifest.find('license').get('file')
    assert 'Apache License' in licence.read_text()


def imported_modules(*folders: str) -> set[str]:
    """Top-level names of everything that the modules of these folders import from outside."""
    modules = set()
    for folder in folders:
        for path in (REPOSITORY / folder).rglob('*.py'):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    modules.update(alias.name.split('.')[0] for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.level == 0:
                    modules.add(node.module.split('.')[0])
    return modules - set(sys.stdlib_module_names) - {'dmd3c_ros', 'training'}


def requirement_lines(path: str) -> list[str]:
    lines = (REPOSITORY / path).read_text().splitlines()
    return [line for line in lines if line and line[0] != '#']


def names_of(requirements: list[str]) -> set[str]:
    return {re.match(r'[\w.-]+', r).group().lower() for r in requirements}


def test_every_import_is_a_named_dependency(manifest, metadata):
    # PyTorch's GPU builds bring Triton along; without it the GPU kernels are not imported.
    # ORB-SLAM3 is GPL-3: only its worker imports it, in an environment of its own.
    modules = imported_modules('dmd3c_ros', 'launch') - {'triton', 'pywrapped_orbslam3'}
    rosdep = {e.text for tag in ('depend', 'exec_depend') for e in manifest.iter(tag)}
    assert {PACKAGES.get(m, (m,))[0] for m in modules} - rosdep - {None} == set()
    needed_by_pip = {PACKAGES[m][1] for m in modules if m in PACKAGES}
    assert needed_by_pip - {None} - names_of(metadata['requires']) == set()


def test_every_requirement_is_pinned_once_for_every_python(metadata):
    requirements = pytest.importorskip('packaging.requirements')
    lines = requirement_lines('requirements.txt') + requirement_lines('training/requirements.txt')
    pins = [requirements.Requirement(line) for line in lines]
    assert all(re.fullmatch(r'==[\d.]+(post\d+)?', str(pin.specifier)) for pin in pins)
    for version in ('3.10', '3.11', '3.12', '3.13', '3.14'):
        environment = {'python_version': version}
        chosen = [p for p in pins if p.marker is None or p.marker.evaluate(environment)]
        names = [p.name.lower() for p in chosen]
        assert len(names) == len(set(names)), f'Python {version}: a package is pinned twice'
        wanted = map(requirements.Requirement, metadata['requires'])
        wanted = [r.name for r in wanted if r.marker is None or r.marker.evaluate(environment)]
        assert names_of(wanted) - set(names) == set(), f'Python {version}'


def test_everything_that_training_imports_is_pinned():
    pinned = names_of(requirement_lines('requirements.txt'))
    pinned |= names_of(requirement_lines('training/requirements.txt'))
    modules = imported_modules('training')
    assert {PACKAGES.get(m, (m, m))[1] for m in modules} - pinned == set()
