"""Runs the fuzzer: `python -m fuzz --seconds 600`.

Every format is fuzzed in a process of its own, guided by coverage (atheris), for its share of the
time; then the inputs that reached something new are read once more, and the lines of the readers
that ran are counted. Inputs, seeds and findings stay in the folder. Seeds need PyTorch.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import time
from pathlib import Path

from fuzz import lines
from fuzz.targets import COMMON, ROOT, SEEDS, TARGETS, Runner, beside

_HANG = 10  # seconds for one input
_MEMORY = 512 << 20  # bytes beside what the process has when it begins
_LARGEST = 1 << 18
_ALL = "all"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for all formats together")
    parser.add_argument("--formats", default=",".join(TARGETS), help="default: all")
    parser.add_argument("--folder", type=Path, default=ROOT / "out" / "fuzz")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--child", choices=TARGETS, help=argparse.SUPPRESS)
    parser.add_argument("--lines", choices=[*TARGETS, _ALL], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        _fuzz(options)
    elif options.lines:
        _count(options)
    else:
        sys.exit(_all(options))


def _all(options: argparse.Namespace) -> int:
    seeds = options.folder / "seeds"
    if not seeds.exists():
        subprocess.run([sys.executable, "-m", "fuzz.seeds", seeds], check=True)
    formats, failed, total = options.formats.split(","), 0, 0
    for name in formats:
        command = [sys.executable, "-m", "fuzz", "--folder", options.folder]
        share = ["--seconds", str(max(1, options.seconds // len(formats)))]
        started = time.monotonic()
        child = subprocess.run([*command, *share, "--seed", str(options.seed), "--child", name])
        took = time.monotonic() - started
        counts = json.loads((options.folder / f"{name}.json").read_text())
        total += counts["past_header"]
        failed += child.returncode != 0
        print(
            f"{name}: {counts['inputs']} inputs, {counts['past_header']} past the header, "
            f"{took:.0f} s, {'a finding' if child.returncode else 'no finding'}",
            flush=True,
        )
        subprocess.run([*command, "--lines", name], check=True)
    print(f"{total} inputs past the header; of all readers together:")
    subprocess.run([*command, "--lines", _ALL], check=True)
    return min(failed, 1)


def _limit_memory() -> None:
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + _MEMORY, now + _MEMORY))


def _fuzz(options: argparse.Namespace) -> None:
    import atheris

    name = options.child
    target = TARGETS[name]
    with atheris.instrument_imports(include=["converters"]):
        import converters.checkpoint.archive
        import converters.checkpoint.torch_legacy
        import converters.checkpoint.torch_zip
        import converters.inspection
        import converters.program
        import converters.tflite
        import converters.tflite.rewrites
        import converters.verify.compare  # noqa: F401
    if name == "tflite":
        import ulsam_keras.spatial_softmax  # noqa: F401  before memory is limited

    found, corpus = options.folder / "found", options.folder / "corpus" / name
    for folder in (found, corpus):
        folder.mkdir(parents=True, exist_ok=True)
    run = Runner(target, beside(options.folder / "seeds", name))
    counted = options.folder / f"{name}.json"

    def one(data: bytes) -> None:
        if run.inputs % 500 == 0:
            counts = {"inputs": run.inputs, "past_header": run.past_header}
            counted.write_text(json.dumps(counts))
        run(data)

    seeds = options.folder / "seeds" / SEEDS[name]
    start = [file.read_bytes() for file in sorted(seeds.glob("*"))]

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        draw = random.Random(seed)
        if not target.past_header(data):
            data = draw.choice(start)
        changed = target.mutate(data, draw)
        return changed if len(changed) <= most else data[:most]

    for content in start:
        one(content)
    atheris.Setup(
        [
            sys.argv[0],
            str(corpus),
            str(seeds),
            f"-max_total_time={options.seconds}",
            f"-timeout={_HANG}",
            f"-max_len={_LARGEST}",
            f"-artifact_prefix={found}/{name}-",
            f"-seed={options.seed}",
            "-rss_limit_mb=0",
            "-verbosity=0",
            "-print_final_stats=0",
            "-len_control=0",
        ],
        one,
        custom_mutator=mutate,
    )
    _limit_memory()
    atheris.Fuzz()


def _count(options: argparse.Namespace) -> None:
    """Reads the corpora again and says which lines of the readers ran."""
    names = list(TARGETS) if options.lines == _ALL else [options.lines]
    files = {file for name in names for file in TARGETS[name].files}
    if options.lines == _ALL:
        files |= set(COMMON)
    if not files:
        return
    with lines.recorded(files) as ran:
        for name in names:
            run = Runner(TARGETS[name], beside(options.folder / "seeds", name))
            for folder in (f"seeds/{SEEDS[name]}", f"corpus/{name}"):
                for file in sorted((options.folder / folder).glob("*")):
                    run(file.read_bytes())
    wanted = {file: lines.executable(file) for file in sorted(files)}
    reached = {file: wanted[file] & ran[str(file)] for file in wanted}
    count, of = (sum(map(len, each.values())) for each in (reached, wanted))
    print(f"  lines of the reader: {count} of {of}, {100 * count / of:.1f} %", flush=True)
    for file in wanted:
        missing = sorted(wanted[file] - reached[file])
        if missing and options.lines == _ALL:
            print(f"    {file.name}: not {' '.join(map(str, missing))}", flush=True)


if __name__ == "__main__":
    main()
