"""A bounded run of the fuzzer with fixed seeds; `make fuzz` runs it guided by coverage."""

import dataclasses
import random
import resource
import signal
from pathlib import Path

import pytest

from fuzz import lines, seeds
from fuzz.targets import SEEDS, TARGETS, Runner, beside

SECONDS = 10  # of the processor; more for one input is a hang
MEMORY = 512 << 20
INPUTS = {"zip": 250, "legacy": 250, "npz": 150, "safetensors": 300, "sharded": 300, "pt2": 40}
INPUTS |= {"tflite": 60, "rewrites": 60, "verified": 40, "native": 6}
# Of the reader's lines, by so few inputs; the guided run reaches more (docs/checkpoints.md).
REACHED = 0.6


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("seeds")
    seeds.write(path, few=True)
    return path


@pytest.fixture
def bounded():
    """Memory and time of the process, put back after the test."""
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)

    def hang(*_):
        pytest.fail(f"more than {SECONDS} seconds for one input")  # which no reader catches

    handler = signal.signal(signal.SIGPROF, hang)
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, before[1]))
    yield
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.signal(signal.SIGPROF, handler)
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="measured through /proc")
@pytest.mark.parametrize("name", TARGETS)
def test_nothing_but_one_line(folder, bounded, name):
    target = TARGETS[name]
    run = Runner(target, beside(folder, name))
    start = [file.read_bytes() for file in sorted((folder / SEEDS[name]).glob("*"))]
    draw = random.Random(name)
    inputs = [target.mutate(draw.choice(start), draw) for _ in range(INPUTS[name])]
    inputs += start if target.files else []  # nor is the runtime started for all of them
    wanted = target.lines()
    with lines.recorded(wanted) as ran:
        for content in inputs:
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            run(content)
    assert sum(map(target.past_header, inputs)) > 0.5 * len(inputs)
    count = sum(len(wanted[file] & ran[file]) for file in wanted)
    assert count >= REACHED * sum(map(len, wanted.values()))


def test_a_finding_is_one():
    """What a reader may not raise is not swallowed."""

    def broken(path):
        raise KeyError(path)

    run = Runner(dataclasses.replace(TARGETS["safetensors"], read=broken))
    with pytest.raises(KeyError):
        run(b"x")
