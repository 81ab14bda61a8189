#!/usr/bin/env bash
# Builds dmd3c_ros in a ROS 2 workspace, with the Python packages that ROS and the distribution lack
# in a virtual environment of the workspace:
#
#     source /opt/ros/jazzy/setup.bash
#     cd ~/ros2_ws                        # this checkout lies in src/
#     src/dmd3c_ros/docs/install_ros.sh   # arguments go to colcon build
#     source install/setup.bash
#
# Ubuntu 24.04 lets pip install into nothing but such an environment (PEP 668). It sees the packages
# of ROS and of the distribution too, and the executables that are built run with its Python: nobody
# has to activate it. A second run brings both up to date.
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
# What Debian has of NumPy's friends (SciPy, OpenCV, cv_bridge) is built for NumPy 1, and colcon
# builds Python packages with a setuptools below 80.
venv/bin/python3 -m pip install --disable-pip-version-check \
    'numpy<2' 'setuptools<80' 'torch>=2.5' 'rosbags>=0.11' rosbags-image 'open3d>=0.18' onnxruntime

# The scripts of ament_python packages start with the Python that built them.
venv/bin/python3 -m colcon build --packages-select dmd3c_ros --symlink-install "$@"
echo 'built; now: source install/setup.bash'
