"""Builds dmd3c_ros, with pip as with colcon (ament_python)."""

from glob import glob

from setuptools import Distribution, find_packages, setup

PACKAGE = 'dmd3c_ros'
SHARE = f'share/{PACKAGE}'


class WithData(Distribution):
    """A distribution that tells `pip install -e` about share/, which it would leave out."""

    def has_data(self) -> bool:
        return self.has_data_files()


setup(
    distclass=WithData,
    name=PACKAGE,
    version='0.1.0',
    description='Dense metric depth from a camera and a LiDAR, for ROS 2',
    author='dmd3c_ros maintainers',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=[PACKAGE, f'{PACKAGE}.*']),
    # The package finds its weights beside its modules in every form of installation.
    package_data={PACKAGE: ['weights/*', 'slam/aligned_malloc.c']},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{PACKAGE}']),
        (SHARE, ['package.xml', 'LICENSE']),
        (f'{SHARE}/launch', glob('launch/*.launch.py')),
        (f'{SHARE}/config', glob('config/*')),
    ],
    # Lowest versions; requirements.txt has the tested ones. rclpy and the messages come from ROS 2
    # (package.xml) or from requirements.txt: the commands that work on files need neither.
    install_requires=[
        'setuptools',
        'apsw',
        'numpy>=1.26',
        'opencv-python-headless>=4.5',
        'pillow',
        'PyYAML',
        'rich',
        'rosbags>=0.11',
        'rosbags-image',
        'scipy>=1.8',
        'torch>=2.5',
        'typer>=0.9',
    ],
    extras_require={
        'simulation': ['open3d>=0.18'],
        'nyu': ['h5py'],
        'mono': ['safetensors'],
        'openvino': ['openvino'],
        'onnx': ['onnx', 'onnxruntime', 'onnxscript'],
        'slam': ['evo', 'kiss-icp; python_version < "3.14"', 'matplotlib'],
        'view': ['rerun-sdk'],
        'test': ['pytest', 'pytest-timeout'],
    },
    zip_safe=False,
    entry_points={
        'console_scripts': [
            f'bag_player = {PACKAGE}.node.players.bag_player:main',
            f'completion_node = {PACKAGE}.completion_node:main',
            f'completion_rviz = {PACKAGE}.node.rviz:main',
            f'dmd3c = {PACKAGE}.cli:main',
            f'droid_feeder = {PACKAGE}.node.droid_feeder:main',
            f'kitti_player = {PACKAGE}.node.players.kitti_player:main',
            f'sim_player = {PACKAGE}.node.players.sim_player:main',
        ],
    },
)
