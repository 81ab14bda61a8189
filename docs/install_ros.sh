#!/usr/bin/env bash
# Builds dmd3c_ros in a ROS 2 workspace. Python packages that neither ROS nor the distribution
# provides go into a virtual environment in the workspace:
#
#     source /opt/ros/jazzy/setup.bash
#     cd ~/ros2_ws                        # this checkout lies in src/
#     src/dmd3c_ros/docs/install_ros.sh   # arguments go to colcon build
#     source install/setup.bash
#
# On Ubuntu 24.04, pip can only install into a virtual environment (PEP 668). This one also sees the
# packages of ROS and the distribution, and the executables run with its Python, so there is no need
# to activate it. Running the script again updates both.
set -euo pipefail

fail() {
    echo "install_ros.sh: $*" >&2
    exit 1
}

package=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
[[ -n ${ROS_DISTRO:-} ]] || fail 'expected ROS 2 to be sourced: source /opt/ros/jazzy/setup.bash'
[[ $package == "$PWD"/src/* ]] ||
    fail "expected to be run in the workspace whose src/ holds $package, not in $PWD"

rosdep install --from-paths "$package" --ignore-src -y --rosdistro "$ROS_DISTRO"

[[ -x venv/bin/python3 ]] || python3 -m venv --system-site-packages venv
touch venv/COLCON_IGNORE
# SciPy, OpenCV and cv_bridge from Debian packages are built for NumPy 1, and colcon needs a
# setuptools below 80 to build Python packages.
venv/bin/python3 -m pip install --disable-pip-version-check \
    'numpy<2' 'setuptools<80' 'torch>=2.5' 'rosbags>=0.11' rosbags-image 'open3d>=0.18' onnxruntime

# Scripts of ament_python packages run with the Python that built them.
venv/bin/python3 -m colcon build --packages-select dmd3c_ros --symlink-install "$@"
echo 'built; now: source install/setup.bash'
