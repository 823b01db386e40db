"""Install the package; everything is in pyproject.toml."""

from setuptools import setup

setup()
