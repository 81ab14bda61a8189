"""Dependencies point one way: node -> core <- training; only the node's side knows ROS."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
# Folders that must work where there is no ROS at all.
ROS_FREE = {
    'core': ('dmd3c_ros/core',),
    'simulation': ('dmd3c_ros/simulation',),
    'files': ('dmd3c_ros/io', 'dmd3c_ros/datasets', 'dmd3c_ros/cli'),
    'training': ('training',),
}
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
# For each folder what it must not import of the project itself, modules and what lies below them.
FORBIDDEN = {
    'dmd3c_ros': ('training', 'test'),
    'dmd3c_ros/core': ('dmd3c_ros',),
    'dmd3c_ros/simulation': ('dmd3c_ros.cli', 'dmd3c_ros.demo', 'dmd3c_ros.node'),
    'training': ('dmd3c_ros.cli', 'dmd3c_ros.demo', 'dmd3c_ros.node'),
}
ALLOWED = {'dmd3c_ros/core': ('dmd3c_ros.core',)}

IMPORT_EVERYTHING = """
import importlib, json, sys

blocked, modules = json.loads(sys.argv[1])

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in blocked:
            raise ModuleNotFoundError(f'{name} is blocked here', name=name)

sys.meta_path.insert(0, Blocker())
for module in modules:
    importlib.import_module(module)
print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))
"""


def modules_of(folder: str) -> dict[str, Path]:
    """Every module of a folder: dotted name -> file."""
    found = {}
    for path in sorted((REPOSITORY / folder).rglob('*.py')):
        parts = path.relative_to(REPOSITORY).with_suffix('').parts
        if parts[-1] != '__main__':
            found['.'.join(parts[:-1] if parts[-1] == '__init__' else parts)] = path
    return found


def imports_of(name: str, path: Path) -> set[str]:
    """Dotted names that a module imports, relative ones resolved."""
    package = name.split('.') if path.name == '__init__.py' else name.split('.')[:-1]
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = '.'.join([*base, *([node.module] if node.module else [])])
            names.update({module, *(f'{module}.{alias.name}' for alias in node.names)})
    return names


def below(name: str, roots: tuple[str, ...]) -> bool:
    return any(name == root or name.startswith(f'{root}.') for root in roots)


@pytest.mark.parametrize('folder', FORBIDDEN)
def test_no_layer_imports_the_one_above(folder):
    modules = modules_of(folder)
    assert modules
    allowed = ALLOWED.get(folder, ())
    wrong = {
        f'{module} imports {name}'
        for module, path in modules.items()
        for name in imports_of(module, path)
        if below(name, FORBIDDEN[folder]) and not below(name, allowed)
    }
    # `import package` alone reaches no module of it.
    assert {w for w in wrong if not w.endswith(' imports dmd3c_ros')} == set()


@pytest.mark.parametrize('folders', ROS_FREE.values(), ids=ROS_FREE)
def test_everything_below_the_node_imports_without_ros(folders):
    # Triton comes with PyTorch's GPU builds; the module that needs it is imported on a GPU only.
    optional = {'dmd3c_ros.core.ops.kernels'}
    modules = [m for folder in folders for m in modules_of(folder) if m not in optional]
    assert modules
    arguments = json.dumps([sorted(ROS), sorted(modules)])
    done = subprocess.run(
        [sys.executable, '-c', IMPORT_EVERYTHING, arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert loaded & ROS == set()
    # Open3D takes seconds and system libraries: only rendering a scene may load it.
    assert 'open3d' not in loaded
