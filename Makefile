.PHONY: help setup demo serve test slow lock clean

help:
	@echo "make demo    set up, train the demo's models, and run the whole way once"
	@echo "make serve   set up, and leave the demo's stack running"
	@echo "make test    set up, and run lint, types and tests"
	@echo "make slow    set up, and run the tests that take minutes, which 'make test' leaves out"
	@echo "make setup   only make the virtual environment"

setup:
	@scripts/setup

demo: setup
	@.venv/bin/slmdock demo

serve: setup
	@.venv/bin/slmdock demo --serve

test: setup
	@scripts/test

slow: setup
	@.venv/bin/python -m pytest -m slow

lock:
	@scripts/lock

clean:
	rm -rf .venv
