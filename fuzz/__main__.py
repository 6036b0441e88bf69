"""Runs the fuzzer: `python -m fuzz --seconds 600`.

Every format is fuzzed in a process of its own, guided by coverage (atheris), for its share of the
time; then the inputs that reached something new are read once more, and the lines of the readers
that ran are counted. Inputs, seeds, counts and findings stay in the folder, where the next run goes
on. Seeds need PyTorch.
"""

import argparse
import random
import resource
import signal
import subprocess
import sys
import time
import traceback
from hashlib import blake2b
from pathlib import Path

from fuzz import lines
from fuzz.targets import COMMON, ROOT, SEEDS, TARGETS, Runner, beside

# Seconds of the processor for one input; and on the clock, for what the interpreter cannot end.
_HANG, _LOST = 10, 120
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
        seen = _Seen(options.folder / f"{name}.seen")
        found = len(list((options.folder / "found").glob(f"{name}-*")))
        total += seen.past_header
        failed += child.returncode != 0 or found > 0
        print(
            f"{name}: {len(seen.inputs)} inputs, {seen.past_header} past the header, of all runs; "
            f"{took:.0f} s, {found} findings",
            flush=True,
        )
        subprocess.run([*command, "--lines", name], check=True)
    print(f"{total} inputs past the header; of all readers together:")
    subprocess.run([*command, "--lines", _ALL], check=True)
    return min(failed, 1)


class _Hang(BaseException):
    """What no reader may catch."""


class _Seen:
    """The inputs of all runs, each counted once.

    Args:
        path: Where they are noted: eight bytes of a digest, and one for whether it got past the
            header.
    """

    def __init__(self, path: Path) -> None:
        known = path.read_bytes() if path.exists() else b""
        self._file = path.open("ab")
        self.inputs = {known[i : i + 8] for i in range(0, len(known), 9)}
        self.past_header = sum(known[8::9])

    def note(self, data: bytes, past_header: bool) -> None:
        """Notes an input."""
        digest = blake2b(data, digest_size=8).digest()
        if digest not in self.inputs:
            self.inputs.add(digest)
            self.past_header += past_header
            self._file.write(digest + bytes([past_header]))
            if len(self.inputs) % 100 == 0:
                self._file.flush()


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
    import rich.console  # noqa: F401  before memory is limited, as is Keras

    if name == "tflite":
        import ulsam_keras.spatial_softmax  # noqa: F401

    found, corpus = options.folder / "found", options.folder / "corpus" / name
    for folder in (found, corpus):
        folder.mkdir(parents=True, exist_ok=True)
    run = Runner(target, beside(options.folder / "seeds", name))
    seen = _Seen(options.folder / f"{name}.seen")

    def hang(*_: object) -> None:
        raise _Hang

    signal.signal(signal.SIGPROF, hang)

    def one(data: bytes) -> None:
        seen.note(data, target.past_header(data))
        signal.setitimer(signal.ITIMER_PROF, _HANG)
        try:
            run(data)
        except (Exception, _Hang) as error:  # the run goes on: one file for each place
            place = traceback.extract_tb(error.__traceback__)[-1]
            finding = f"{name}-{type(error).__name__}-{Path(place.filename).stem}-{place.lineno}"
            if not (path := found / finding).exists():
                path.write_bytes(data)
                traceback.print_exc()
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)

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
            f"-timeout={_LOST}",
            f"-report_slow_units={_LOST}",
            f"-max_len={_LARGEST}",
            f"-artifact_prefix={found}/{name}-",
            f"-seed={options.seed + len(seen.inputs)}",
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
    wanted: dict[str, set[int]] = {}
    for name in names:
        wanted |= {
            path: wanted.get(path, set()) | own for path, own in TARGETS[name].lines().items()
        }
    if options.lines == _ALL:
        wanted |= {str(file): lines.executable(file) for file in COMMON}
    if not wanted:
        return
    with lines.recorded(wanted) as ran:
        for name in names:
            run = Runner(TARGETS[name], beside(options.folder / "seeds", name))
            for folder in (f"seeds/{SEEDS[name]}", f"corpus/{name}"):
                for file in sorted((options.folder / folder).glob("*")):
                    run(file.read_bytes())
    reached = {path: wanted[path] & ran[path] for path in wanted}
    count, of = (sum(map(len, each.values())) for each in (reached, wanted))
    print(f"  lines of the reader: {count} of {of}, {100 * count / of:.1f} %", flush=True)
    for path in wanted:
        missing = sorted(wanted[path] - reached[path])
        if missing:
            print(f"    {Path(path).name}: not {' '.join(map(str, missing))}", flush=True)


if __name__ == "__main__":
    main()
