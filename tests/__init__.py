"""A package, so that test files can share their cases: `from tests.frameworks import need`."""
