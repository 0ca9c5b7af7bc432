"""A tiny training framework, so that the command line can be tested without a large one."""
