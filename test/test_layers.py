"""Dependencies point one way: core <- messages <- pipeline <- node; nothing goes in circles."""

import ast
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
# What each package may import of the others; every import counts, lazy ones and those for type
# checking too. Beside the layers: files, sensors that are made up, recordings, measurements.
MAY_IMPORT = {
    '': 'core',
    'core': '',
    'io': 'core',
    'simulation': 'core',
    'messages': 'core',
    'pipeline': 'core messages',
    'datasets': 'core io simulation',
    'evaluation': 'core io datasets',
    'slam': 'core io datasets',
    'bags': 'core io messages pipeline slam',
    'viewing': 'core io messages pipeline bags datasets slam',
    'node': 'core io messages pipeline bags datasets simulation slam',
    'completion_node': 'core messages pipeline node',
    'demo': 'core io messages node simulation evaluation',
    'benchmarks': 'core io messages pipeline bags datasets simulation slam demo',
    'cli': 'core io messages pipeline bags datasets simulation evaluation slam viewing demo '
    'benchmarks',
    'training': 'core io datasets simulation evaluation',
}
# Where rclpy is at home: the node, and what talks to one to watch it.
MAY_IMPORT_RCLPY = ('node', 'completion_node', 'demo', 'benchmarks.soak', 'benchmarks.live')
ROS = {
    'builtin_interfaces',
    'cv_bridge',
    'diagnostic_msgs',
    'geometry_msgs',
    'launch',
    'launch_ros',
    'lifecycle_msgs',
    'message_filters',
    'rcl_interfaces',
    'rclpy',
    'rosgraph_msgs',
    'sensor_msgs',
    'sensor_msgs_py',
    'std_msgs',
    'tf2_msgs',
    'tf2_ros',
    'tf_transformations',
}
# Packages that must work where there is no ROS at all.
ROS_FREE = {
    'core': ('core',),
    'sensors': ('simulation', 'io', 'datasets', 'evaluation'),
    'frames': ('messages', 'pipeline', 'bags', 'slam', 'viewing'),
    'command': ('cli',),
    'training': ('training',),
}

IMPORT_EVERYTHING = """
import importlib, json, os, sys, traceback

blocked, groups = json.loads(sys.argv[1])

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in blocked:
            raise ModuleNotFoundError(f'{name} is blocked here', name=name)

def found(modules):
    try:
        for module in modules:
            importlib.import_module(module)
    except BaseException:
        return traceback.format_exc()
    return sorted({name.split('.')[0] for name in sys.modules})

sys.meta_path.insert(0, Blocker())
import torch
for group, modules in groups.items():
    if not os.fork():
        print(json.dumps([group, found(modules)]), flush=True)
        os._exit(0)
    os.wait()
"""


def _modules() -> dict[str, Path]:
    """Every module of the package and of training: dotted name -> file."""
    found = {}
    for top in ('dmd3c_ros', 'training'):
        for path in sorted((REPOSITORY / top).rglob('*.py')):
            parts = path.relative_to(REPOSITORY).with_suffix('').parts
            found['.'.join(parts[:-1] if parts[-1] == '__init__' else parts)] = path
    return found


MODULES = _modules()


def package_of(module: str) -> str:
    """The row of MAY_IMPORT that a module belongs to; empty for the top of the package itself."""
    parts = module.split('.')
    return parts[0] if parts[0] == 'training' else ''.join(parts[1:2])


def imports_of(name: str, path: Path) -> set[str]:
    """Dotted names of the modules that a module imports, of this project and of others."""
    package = name.split('.') if path.name == '__init__.py' else name.split('.')[:-1]
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = '.'.join([*base, *([node.module] if node.module else [])])
            full = [f'{module}.{alias.name}' for alias in node.names]
            names.update(one if one in MODULES else module for one in full)
    return names


IMPORTS = {name: imports_of(name, path) - {name} for name, path in MODULES.items()}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Some way along a graph's edges that ends where it starts; empty where there is none."""
    done: set[str] = set()

    def follow(node: str, way: list[str]) -> list[str]:
        if node in way:
            return [*way[way.index(node) :], node]
        if node not in done:
            for following in sorted(graph.get(node, ())):
                if found := follow(following, [*way, node]):
                    return found
        done.add(node)
        return []

    return next((found for node in sorted(graph) if (found := follow(node, []))), [])


def test_a_circle_is_found():
    assert circle({'a': {'b'}, 'b': {'c'}, 'c': set()}) == []
    assert circle({'a': {'b'}, 'b': {'c', 'd'}, 'c': set(), 'd': {'b'}}) == ['b', 'd', 'b']


def test_no_module_imports_itself_by_way_of_others():
    assert circle(IMPORTS) == []


def test_no_package_imports_itself_by_way_of_others():
    packages: dict[str, set[str]] = {}
    for module, imported in IMPORTS.items():
        own = packages.setdefault(package_of(module), set())
        own |= {package_of(name) for name in imported if name in MODULES}
    assert circle({name: others - {name} for name, others in packages.items()}) == []


def test_every_package_has_its_place():
    assert {package_of(name) for name in MODULES} == MAY_IMPORT.keys()


@pytest.mark.parametrize('package', MAY_IMPORT)
def test_no_package_imports_one_above_it(package):
    allowed = {package, *MAY_IMPORT[package].split()}
    wrong = {
        f'{module} imports {name}'
        for module in MODULES
        if package_of(module) == package
        for name in IMPORTS[module]
        if (name in MODULES and package_of(name) not in allowed) or name == 'test'
    }
    assert wrong == set()


def test_rclpy_stays_with_the_nodes():
    homes = tuple(f'dmd3c_ros.{home}' for home in MAY_IMPORT_RCLPY)
    users = {m for m in MODULES if any(n.split('.')[0] == 'rclpy' for n in IMPORTS[m])}
    assert 'dmd3c_ros.completion_node' in users
    assert {user for user in users if not user.startswith(homes)} == set()


@pytest.fixture(scope='module')
def loaded() -> dict[str, list[str] | str]:
    """What each group loads, or its error: processes that are forked from one with PyTorch."""
    # Triton comes with PyTorch's GPU builds; the module that needs it is imported on a GPU only.
    optional = {'dmd3c_ros.core.ops.kernels', 'dmd3c_ros.cli.__main__'}
    groups = {
        group: sorted(m for m in MODULES if package_of(m) in packages and m not in optional)
        for group, packages in ROS_FREE.items()
        if group != 'training' or find_spec('lightning')
    }
    assert all(groups.values())
    done = subprocess.run(
        [sys.executable, '-c', IMPORT_EVERYTHING, json.dumps([sorted(ROS), groups])],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert done.returncode == 0, done.stderr
    found = dict(json.loads(line) for line in done.stdout.splitlines() if line.startswith('["'))
    assert found.keys() == groups.keys(), done.stderr
    return found


@pytest.mark.parametrize('group', ROS_FREE)
def test_everything_below_the_node_imports_without_ros(group, loaded):
    if group not in loaded:
        pytest.skip('training needs training/requirements.txt')
    names = loaded[group]
    assert isinstance(names, list), names
    assert set(names) & ROS == set()
    # Open3D takes seconds and system libraries: only rendering a scene may load it.
    assert 'open3d' not in names


@pytest.mark.parametrize('name', ['players.kitti_player', 'players.bag_player', 'rviz'])
def test_nodes_that_complete_nothing_start_without_pytorch(name):
    """It takes them two seconds and half a gigabyte."""
    pytest.importorskip('rclpy')
    script = f'import sys, dmd3c_ros.node.{name}; assert "torch" not in sys.modules'
    subprocess.run([sys.executable, '-c', script], cwd=REPOSITORY, check=True, timeout=170)


def test_the_two_public_names_come_without_loading_anything_before():
    script = (
        'import sys, dmd3c_ros\n'
        "assert 'torch' not in sys.modules and set(dmd3c_ros.__all__) <= set(dir(dmd3c_ros))\n"
        'from dmd3c_ros import CompleterConfig, DepthCompleter\n'
        "assert DepthCompleter(CompleterConfig(model='nearest')).name == 'nearest'\n"
        'try:\n'
        '    dmd3c_ros.Nothing\n'
        'except AttributeError as error:\n'
        "    assert 'Nothing' in str(error)\n"
    )
    subprocess.run([sys.executable, '-c', script], cwd=REPOSITORY, check=True, timeout=170)
