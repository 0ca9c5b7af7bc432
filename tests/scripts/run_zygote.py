"""Imports fastai once and forks a process for each order on stdin, which runs the command line as a fresh one would."""

import json
import os
import signal
import sys

import fastai.callback.all
import fastai.test_utils

import loopscope.adapters.fastai
import loopscope.cli
import loopscope.render.report.screen
import loopscope.timing

__name__ = "loopscope.running"  # its frames are left out of tracebacks, as loopscope's own are


def become(order):
    """Turn this process into `loopscope ARGS`."""
    for number, name in enumerate((os.devnull, order["out"], order["err"])):
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.alarm(60)
    sys.stdin = open(0, closefd=False)
    sys.stdout = sys.__stdout__ = open(1, "w", closefd=False)
    sys.stderr = sys.__stderr__ = open(2, "w", errors="backslashreplace", buffering=1, closefd=False)
    sys.argv = [os.path.join(os.path.dirname(sys.executable), "loopscope"), *order["args"]]
    sys.orig_argv = [sys.executable, *sys.argv]
    loopscope.cli.main()


for line in sys.stdin:
    order = json.loads(line)
    if "wait" in order:
        print(os.waitstatus_to_exitcode(os.waitpid(order["wait"], 0)[1]), flush=True)
        continue
    pid = os.fork()
    if not pid:
        become(order)
    print(pid, flush=True)
