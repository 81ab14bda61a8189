# make demo | test | lint | clean. Each sets up what it needs in .venv first; a second run starts
# at once. Arguments for the command behind: make demo ARGS='--kitti DRIVE', make test ARGS='-k io'.

.DEFAULT_GOAL := help
.PHONY: help setup training demo test lint clean distclean

ARGS ?=
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin

# .venv has a ROS 2 of its own: nothing of an installed one, nor of another environment, may reach
# into it.
unexport AMENT_PREFIX_PATH COLCON_PREFIX_PATH CMAKE_PREFIX_PATH PYTHONPATH PYTHONHOME
unexport RMW_IMPLEMENTATION ROS_DISTRO VIRTUAL_ENV _ROS_WHEELS_BOOTSTRAP_COMPLETE
ifneq ($(ROS_DISTRO)$(_ROS_WHEELS_BOOTSTRAP_COMPLETE),)
unexport LD_LIBRARY_PATH
endif

# The stamp is named after everything that decides what is in .venv, and where .venv is.
INPUTS := .ci/set_up requirements.txt setup.py setup.cfg pip_ros/pyproject.toml
READY := $(VENV)/.ready-$(shell { pwd; cat $(INPUTS); } | cksum | cut -d' ' -f1)
TRAINING := $(VENV)/.training-$(shell cksum training/requirements.txt | cut -d' ' -f1)

help:
	@echo "make demo    run the node on simulated sensors, results in demo_out/ (ARGS: its options)"
	@echo "make test    run all tests in JOBS processes (2) (ARGS: options of pytest)"
	@echo "make lint    check the style with ruff"
	@echo "make setup   only set up $(VENV), which the others do by themselves"
	@echo "make training  set up what training needs as well; make test does so by itself"
	@echo "make clean   remove build results and demo_out/; make distclean removes $(VENV) too"

setup: $(READY)

training: $(TRAINING)

demo: $(READY)
	@$(BIN)/dmd3c demo $(ARGS)

# By files: tests of one file share what takes long to set up. A process that crashes ends the
# run: xdist would wait for ever for the tests that it was to run. It says where, as Lightning's
# trainers reset the handlers of all signals, but not those that were there before Python's own.
test: $(READY) $(TRAINING)
	@PYTHONFAULTHANDLER=1 $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile \
		--max-worker-restart 0 test pip_ros/test $(ARGS)

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

$(READY):
	@.ci/set_up $(VENV)
	@rm -f $(VENV)/.ready-*
	@touch $@

# The demo does without it. Both files at once, so that pip keeps the versions of the first.
$(TRAINING): $(READY)
	@echo '[setup] installing what training and its tests need'
	@$(BIN)/python -m pip --disable-pip-version-check install --quiet --progress-bar off \
		-r requirements.txt -r training/requirements.txt
	@rm -f $(VENV)/.training-*
	@touch $@

clean:
	@rm -rf build install log demo_out .pytest_cache .ruff_cache
	@rm -rf *.egg-info pip_ros/*.egg-info pip_ros/build
	@find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean
	@rm -rf $(VENV)
