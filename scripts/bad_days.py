"""Bad days, one after the other: what the command leaves when a process is killed, a disk is full.

    python scripts/bad_days.py                           # all of them; an hour or two
    python scripts/bad_days.py kill signals -n 5         # some of them, at five moments each
    python scripts/bad_days.py --update docs/bad_days.md # their rows of the table written anew

Every run is the real command on the digits network, in a folder that holds an earlier conversion
and a file of the user's. Full disks and read-only ones are small file systems of their own, in a
mount namespace: root, or user namespaces, are needed. Linux only.
"""

import argparse
import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIGITS = ROOT / "examples" / "digits"
VULKAN = ROOT / ".vulkan" / "swiftshader"
COMMAND = [sys.executable, "-c", "from converters.cli import main; main()"]
CHECKPOINT, MODEL = DIGITS / "digits_ulsam.pth", f"{DIGITS / 'model.py'}:build"
ONE = ("--model", MODEL, "--precision", "float32")
CPU = (*ONE, "--no-gpu")
MINE = "notes.txt"
# What is told of each stage, and what is warned of, stand beside the one line of an error.
BESIDE = re.compile(r"^(\[\d+/\d+\] |warning: )")
KILLED = (-signal.SIGKILL,)
Tree = dict[str, bytes | None]


@dataclass
class Day:
    """What became of the runs of one kind.

    Attributes:
        runs: How many there were.
        statuses: How often each exit status came.
        wrong: What did not hold, and how often.
        told: The errors that were printed, paths left out.
        kept: What SIGKILL left for the next run to remove.
    """

    runs: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    told: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)


class Place:
    """A folder for one run: with a destination, and a folder for what is temporary.

    Args:
        base: Where it is made.
        earlier: The files of an earlier conversion; none for a new destination.
    """

    def __init__(self, base: Path, earlier: Path | None) -> None:
        self.root = base / uuid.uuid4().hex[:8]
        self.out, self.temporary = self.root / "out", self.root / "tmp"
        self.temporary.mkdir(parents=True)
        self.mark = f"ULSAM_BAD_DAY={uuid.uuid4().hex}"
        if earlier is not None:
            self.fill(earlier)

    def fill(self, earlier: Path) -> None:
        shutil.copytree(earlier, self.out, dirs_exist_ok=True)
        (self.out / MINE).write_text("mine")

    def environment(self, **more: str) -> dict[str, str]:
        name, _, value = self.mark.partition("=")
        path = os.pathsep.join(filter(None, (more.pop("PYTHONPATH", ""), str(ROOT))))
        given = {"TMPDIR": str(self.temporary), "PYTHONPATH": path, name: value}
        return {**os.environ, **given, **more}

    def processes(self) -> list[int]:
        """Those that still run, of whatever was started here."""
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if self.mark.encode() in path.read_bytes():
                    found.append(int(path.parent.name))
        return found

    def clear(self) -> None:
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.root, ignore_errors=True)


def tree(folder: Path) -> Tree:
    """Every file below a folder with its content."""
    paths = sorted(folder.rglob("*")) if folder.is_dir() else []
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in paths
    }


def start(place: Place, *arguments: object, shell: str = "", **options) -> subprocess.Popen[bytes]:
    """Starts the command, by itself a conversion; in `shell`, a line of bash, `"$@"` is it."""
    line = [*COMMAND, *map(str, arguments or ("convert", CHECKPOINT, *CPU, "-o", place.out))]
    if shell:
        line = ["bash", "-c", shell, "bash", *line]
    return subprocess.Popen(
        line,
        env=place.environment(**options.pop("env", {})),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        # What runs in the background may have been started with these ignored.
        preexec_fn=lambda: [signal.signal(n, signal.SIG_DFL) for n in (1, 2, 3, 13, 15)],
        **options,
    )


def finish(running: subprocess.Popen[bytes], limit: float = 300) -> tuple[int, str, str]:
    """Its exit status, and what it printed; 99 for one that hangs."""
    status = None
    try:
        out, err = running.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        status = 99
        os.killpg(running.pid, signal.SIGKILL)
        out, err = running.communicate()
    said = out.decode(errors="replace"), err.decode(errors="replace")
    return (running.returncode if status is None else status, *said)


def of_destination(place: Place, status: int, before: Tree, repairs: bool = False) -> set[str]:
    """What did not hold of the output folder; one that `repairs` may end what SIGKILL left."""
    after = {k: v for k, v in tree(place.out).items() if not k.startswith(".ulsam-")}
    hidden = {k for k in tree(place.out) if k.startswith(".ulsam-")}
    wrong = set()
    if before and after.get(MINE) != b"mine":
        wrong.add("a file of the user's")
    if status in (0, 1):
        if "report.json" not in after or after.get("report.json") == before.get("report.json"):
            wrong.add("no new conversion")
    elif after != before and not whole(place.out):
        wrong.add("half a conversion")
    elif after != before and status == 2 and not repairs:
        wrong.add("something written")
    if hidden and status not in KILLED:
        wrong.add(f"hidden: {kinds(hidden)}")
    if not before and status not in (0, 1, *KILLED) and place.out.exists():
        wrong.add("a folder that was not there")
    return wrong


def of_none(place: Place, status: int, before: Tree) -> set[str]:
    """Of a run without an output folder."""
    return set()


def of_picture(place: Place, status: int, before: Tree) -> set[str]:
    """What did not hold of a picture that takes the place of another."""
    found = tree(place.root / "pictures")
    if status:
        return set() if found == {"a.png": b"an earlier one"} else {"the earlier picture"}
    return (
        set() if list(found) == ["a.png"] and found["a.png"][:4] == b"\x89PNG" else {"no picture"}
    )


Check = Callable[[Place, int, Tree], set[str]]


def judge(
    day: Day,
    place: Place,
    ended: tuple[int, str, str],
    before: Tree,
    allowed: tuple[int, ...],
    check: Check = of_destination,
) -> None:
    """Writes down what did not hold of one run."""
    status, out, err = ended
    day.runs += 1
    day.statuses[status] += 1
    wrong = check(place, status, before)
    if status not in allowed:
        wrong.add(f"status {status}")
    said = [line for line in err.splitlines() if line and not BESIDE.match(line)]
    day.told.update(shortened(line, place) for line in said)
    if "Traceback" in err or "Exception ignored" in err:
        wrong.add("a traceback")
        if "-v" in sys.argv:
            print(err, file=sys.stderr)
    elif status in (2, 3, 129, 130, 143) and len(said) != 1:
        wrong.add(f"{len(said)} lines")
    if status in (2, 3) and out:
        wrong.add("printed something")
    deadline = time.monotonic() + 3
    # Of a run that is killed others clear away.
    if status not in KILLED and (left := tree(place.temporary)):
        wrong.add(f"temporary files: {kinds(left)}")
    while (alive := place.processes()) and time.monotonic() < deadline:
        time.sleep(0.05)
    if alive:
        wrong.add(f"processes left: {', '.join(sorted(set(map(name_of, alive))))}")
    if status in KILLED and (left := tree(place.temporary)):
        wrong.add(f"temporary files: {kinds(left)}")
    day.wrong.update(wrong)


def whole(folder: Path) -> bool:
    """Whether a folder holds all the files of a conversion."""
    import json

    try:
        report = json.loads((folder / "report.json").read_text())
    except (OSError, ValueError):
        return False
    return all((folder / name).is_file() for name in [f["name"] for f in report["files"]])


def kinds(names: "Iterator[str] | set[str] | dict") -> str:
    """Names without what is random in them."""
    heads = {name.split("/")[0] for name in names}
    return ", ".join(sorted({re.sub(r"(ulsam-\w+-|tmp).*", r"\1*", head) for head in heads}))


def shortened(line: str, place: Place) -> str:
    """A line without what differs from run to run."""
    line = re.sub(r"(ulsam-\w+-)\w+", r"\1*", line.replace(str(place.root), "…"))
    return line.replace(str(ROOT), "…")[:300]


def name_of(pid: int) -> str:
    """What a process runs."""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        return next((Path(w).name for w in words if w.endswith("worker.py")), words[0])
    return "gone"


During = Callable[[Place, "subprocess.Popen[bytes]"], object]


def at(moment: float, act: During) -> During:
    """Does something to a run at a moment of it."""

    def later(place: Place, running: "subprocess.Popen[bytes]") -> None:
        time.sleep(moment)
        act(place, running)

    return later


def all_along(change: Callable[[Path, random.Random], object], name: str, seed: int) -> During:
    """Changes a file or folder, ever again, for as long as a run lasts."""

    def begin(place: Place, running: "subprocess.Popen[bytes]") -> None:
        rng = random.Random(seed)

        def keep_on() -> None:
            while running.poll() is None:
                with contextlib.suppress(OSError):  # in the midst of the last change
                    change(place.root / name, rng)
                time.sleep(rng.uniform(0, 0.02))

        threading.Thread(target=keep_on).start()

    return begin


def damage(path: Path, content: bytes, rng: random.Random) -> None:
    """Cuts a file, replaces it or removes it."""
    match rng.randrange(4):
        case 0:
            path.write_bytes(content[: rng.randrange(len(content))])
        case 1:
            path.write_bytes(content)
        case 2:
            path.unlink(missing_ok=True)
        case _:
            with contextlib.suppress(FileNotFoundError):
                os.truncate(path, rng.randrange(len(content)))


def disturb(folder: Path, rng: random.Random) -> None:
    """Removes a file of a folder, spoils one, or adds one."""
    path = rng.choice(sorted(folder.iterdir()))
    match rng.randrange(3):
        case 0:
            path.unlink()
        case 1:
            path.write_bytes(b"half")
        case _:
            (folder / f"new{rng.randrange(9)}.png").write_bytes(b"")


class Days:
    """All of them; each gives rows of the table.

    Args:
        base: Where the runs have their folders.
        count: How many runs each takes that is random.
    """

    def __init__(self, base: Path, count: int) -> None:
        self.base, self.count, self.random = base, count, random.Random(0)
        base.mkdir(parents=True, exist_ok=True)
        place = Place(base, None)
        started = time.monotonic()
        status, _, err = finish(start(place))
        assert status == 0, err
        # How long it takes, in which the random moments lie.
        self.seconds = time.monotonic() - started
        self.earlier = place.root.with_name("earlier")
        shutil.rmtree(self.earlier, ignore_errors=True)
        shutil.move(place.out, self.earlier)
        self.model = self.earlier / "model.keras"
        self.file = self.earlier / "digits_ulsam_float32.tflite"
        place.clear()

    def run(
        self,
        day: Day,
        *arguments: object,
        allowed: tuple[int, ...],
        new: bool = False,
        prepare: Callable[[Place], object] = lambda place: None,
        during: During = lambda place, running: None,
        check: Check = of_destination,
        env: dict[str, str] | None = None,
        **options,
    ) -> None:
        """One run of the command and what became of it; ROOT in an argument is its folder."""
        place = Place(self.base, None if new else self.earlier)
        try:
            prepare(place)
            before = tree(place.out)
            given = [str(a).replace("ROOT", str(place.root)) for a in arguments]
            env = {k: v.replace("ROOT", str(place.root)) for k, v in (env or {}).items()}
            running = start(place, *given, env=env, **options)
            during(place, running)
            judge(day, place, finish(running), before, allowed, check)
        finally:
            for folder in place.root.iterdir():
                while os.path.ismount(folder):
                    subprocess.run(["umount", "-l", folder], check=False)
            place.clear()

    def moments(self, number: int) -> Iterator[float]:
        for _ in range(number):
            yield self.random.uniform(0, self.seconds)

    def kill(self) -> Iterator[tuple[str, Day]]:
        """SIGKILL at random moments, and the run after it."""
        day, after = Day(), Day()
        repaired = partial(of_destination, repairs=True)
        for number, moment in enumerate(self.moments(self.count)):
            place = Place(self.base, self.earlier)
            before = tree(place.out)
            running = start(place)
            time.sleep(moment)
            running.kill()
            judge(day, place, finish(running), before, (0, *KILLED))
            day.kept.update({k.split("/")[0][:11] for k in tree(place.out) if k[:7] == ".ulsam-"})
            # What fails at once repairs as well.
            fails = ("convert", "nothing.pth", *CPU, "-o", place.out) if number % 10 else ()
            judge(after, place, finish(start(place, *fails)), before, (0, 2), repaired)
            place.clear()
        yield "SIGKILL at a random moment", day
        yield "the run after it, into the same folder", after

    def signals(self) -> Iterator[tuple[str, Day]]:
        """The signals that end a run, at random moments."""
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name)
            # Before Python has its handlers the signal's own doing ends it.
            allowed = (0, 128 + number, -number)
            for twice in (False, True):
                day = Day()

                def send(place: Place, running, number=number, twice=twice, day=day) -> None:
                    running.send_signal(number)
                    if twice:
                        time.sleep(0.05)
                        running.send_signal(number)
                    try:
                        running.wait(10)
                    except subprocess.TimeoutExpired:
                        day.wrong["went on"] += 1

                for moment in self.moments(max(1, self.count // 4)):
                    new = moment < self.seconds / 2
                    self.run(day, allowed=allowed, during=at(moment, send), new=new)
                yield f"{name}{', and again 50 ms later' if twice else ''}", day
        day = Day()
        for moment in self.moments(3):
            broken = at(moment, lambda place, running: running.send_signal(signal.SIGPIPE))
            self.run(day, allowed=(0, -signal.SIGPIPE), during=broken)
        yield "SIGPIPE", day
        day = Day()
        self.run(day, allowed=(0,), during=lambda place, running: running.stdout.close())
        self.run(day, allowed=(0,), during=lambda place, running: running.stderr.close())
        yield "a reader that leaves", day

    def full(self) -> Iterator[tuple[str, Day]]:
        """File systems that are full after ever more bytes, or files."""
        for what, where in (
            ("the output folder's disk", "out"),
            ("the disk for temporary files", "temporary"),
        ):
            for unit, option, values in (
                ("bytes", "size={}k", self.sizes(where)),
                ("files", "size=64m,nr_inodes={}", self.inodes(where)),
            ):
                day = Day()
                for value in values:

                    def mount(place: Place, option=option, value=value, where=where) -> None:
                        folder = getattr(place, where)
                        shutil.rmtree(folder)
                        folder.mkdir()
                        tmpfs(folder, option.format(value))
                        if where == "out":
                            place.fill(self.earlier)

                    with contextlib.suppress(OSError):  # no room for the earlier one
                        self.run(day, allowed=(0, 2), prepare=mount)
                yield f"{what} is full after more and more {unit}", day

    def sizes(self, where: str) -> list[int]:
        """KiB, from too few for anything to enough for an earlier conversion and the new one."""
        earlier = sum(
            -(-len(content or b"") // 4096) * 4 for content in tree(self.earlier).values()
        )
        first, last = (earlier + 8, 2 * earlier + 64) if where == "out" else (4, 2600)
        return sorted(first + (last - first) * n // self.count for n in range(self.count + 1))

    def inodes(self, where: str) -> list[int]:
        """Files, likewise."""
        earlier = len(tree(self.earlier))
        return [*range(earlier + 2, 2 * earlier + 8)] if where == "out" else [*range(2, 41, 3)]

    def folders(self) -> Iterator[tuple[str, Day]]:
        """Destinations that cannot be written to, or go away."""
        day = Day()

        def read_only(place: Place) -> None:
            tmpfs(place.out, "size=64m")
            place.fill(self.earlier)
            subprocess.run(["mount", "-o", "remount,ro", place.out], check=True)

        self.run(day, allowed=(2,), prepare=read_only)
        yield "a read-only output folder", day
        for where, what in (("out", "an output folder"), ("temporary", "a temporary folder")):
            day = Day()

            def vanish(place: Place, running, where=where) -> None:
                shutil.rmtree(getattr(place, where), ignore_errors=True)

            for moment in self.moments(max(3, self.count // 5)):
                check = of_none if where == "out" else of_destination
                self.run(day, allowed=(0, 2), during=at(moment, vanish), check=check)
            yield f"{what} that is removed meanwhile", day
        day = Day()
        usual = [Path(path) for path in ("/tmp", "/var/tmp", "/usr/tmp") if os.path.isdir(path)]
        for path in usual:
            tmpfs(path, "ro")
        nowhere = {"env": {"TMPDIR": "/nowhere"}, "cwd": "/proc"}
        self.run(day, allowed=(2,), **nowhere)
        for command in (
            ("verify", self.file, self.model, "--no-gpu"),
            ("attention", self.model, self.images(1), "-o", "ROOT/a.png"),
        ):
            self.run(day, *command, allowed=(2,), check=of_none, **nowhere)
        self.run(day, "doctor", allowed=(0, 1), check=of_none, **nowhere)
        for path in usual:
            subprocess.run(["umount", "-l", path], check=True)
        yield "no temporary folder", day
        day = Day()
        gone = self.base / "gone"
        gone.mkdir(exist_ok=True)
        self.run(day, allowed=(0,), shell=f'cd "{gone}" && rmdir "{gone}" && exec "$@"')
        yield "a working folder that is gone", day

    def images(self, count: int) -> Path:
        """A folder of pictures."""
        import numpy as np
        from PIL import Image

        folder = self.base / f"images{count}"
        folder.mkdir(exist_ok=True)
        rng = np.random.default_rng(0)
        for number in range(count):
            pixels = rng.integers(0, 256, (16, 16), dtype="uint8")
            Image.fromarray(pixels).save(folder / f"{number:03}.png")
        return folder

    def changing(self) -> Iterator[tuple[str, Day]]:
        """Files that change while they are read."""
        day = Day()
        content = CHECKPOINT.read_bytes()
        for times, check, command in (
            (2, of_none, ("inspect", "ROOT/c.pth")),
            (10, of_destination, ("convert", "ROOT/c.pth", *CPU, "-o", "ROOT/out")),
        ):
            for seed in range(max(2, self.count // times)):
                self.run(
                    day,
                    *command,
                    allowed=(0, 2),
                    prepare=lambda place: (place.root / "c.pth").write_bytes(content),
                    during=all_along(lambda path, rng: damage(path, content, rng), "c.pth", seed),
                    check=check,
                )
        yield "a checkpoint that is cut, replaced and removed while it is read", day
        day = Day()
        source = self.images(400)
        integers = ("--precision", "int8", "--calibration", "ROOT/images")
        for check, command in (
            (of_destination, ("convert", CHECKPOINT, *CPU, "-o", "ROOT/out", *integers)),
            (of_none, ("attention", self.model, "ROOT/images", "-o", "ROOT/a.png")),
        ):
            for seed in range(max(2, self.count // 10)):
                self.run(
                    day,
                    *command,
                    allowed=(0, 1, 2),
                    prepare=lambda place: shutil.copytree(source, place.root / "images"),
                    during=all_along(disturb, "images", seed),
                    check=check,
                )
        yield "a folder of images that changes while it is read", day

    def together(self) -> Iterator[tuple[str, Day]]:
        """Several at once."""
        for count in (2, 8):
            day = Day()
            places = [Place(self.base, self.earlier) for _ in range(count)]
            befores = [tree(place.out) for place in places]
            running = [start(place) for place in places]
            for place, process, before in zip(places, running, befores, strict=True):
                judge(day, place, finish(process), before, (0,))
            yield f"{count} conversions at once, each into a folder of its own", day
            for place in places:
                place.clear()
        for count in (2, 8):
            day = Day()
            place = Place(self.base, self.earlier)
            before = tree(place.out)
            running = [start(place) for _ in range(count)]
            for ended in [finish(process) for process in running]:
                judge(day, place, ended, before, (0, 2), of_none if ended[0] else of_destination)
            if day.statuses[0] < 1:
                day.wrong["none went through"] += 1
            yield f"{count} at once into one folder", day
            place.clear()

    def gpu(self) -> Iterator[tuple[str, Day]]:
        """A GPU that is not there, refuses, crashes or hangs; at once, or on the model."""
        faults = {
            "refuses": "raise RuntimeError('no')",
            "crashes": "os.abort()",
            "hangs": "time.sleep(1000)",
        }
        arguments = ("convert", CHECKPOINT, *ONE, "-o", "ROOT/out", "--timeout", 30)
        for where, spared in (("", "False"), (" on the model", "os.path.getsize(path) < 9999")):
            for what, line in faults.items():

                def stand_in(place: Place, line=line, spared=spared) -> None:
                    (place.root / "sitecustomize.py").write_text(
                        "import os, sys, time\n"
                        "if any(a.endswith('runtime/worker.py') for a in sys.orig_argv):\n"
                        "    from ai_edge_litert.compiled_model import CompiledModel\n"
                        "    real = CompiledModel.from_file\n"
                        "    def from_file(path, **options):\n"
                        f"        if {spared}: return real(path, **options)\n"
                        f"        {line}\n"
                        "    CompiledModel.from_file = from_file\n"
                    )

                day = Day()
                environment = {"PYTHONPATH": "ROOT", "LD_LIBRARY_PATH": str(VULKAN)}
                # A GPU that runs nothing is left out; a model that it does not run is told.
                for required, status in (((), 0), (("--require-gpu",), 2)):
                    allowed = (1 if where else status,)
                    given = (*arguments, *required)
                    self.run(day, *given, allowed=allowed, prepare=stand_in, env=environment)
                yield f"a GPU process that {what}{where}; required too", day
        day = Day()
        none = {"VK_ICD_FILENAMES": "/nowhere"}
        self.run(day, *arguments, allowed=(0,), env=none)
        self.run(day, *arguments, "--require-gpu", allowed=(2,), env=none)
        yield "no GPU; required too", day

    def surroundings(self) -> Iterator[tuple[str, Day]]:
        """Streams, locale, clock."""
        day = Day()
        for streams in (">&-", "2>&-", "<&- >&- 2>&-", "> /dev/full", "2> /dev/full"):
            self.run(day, allowed=(0,), shell=f'exec "$@" {streams}')
        yield "standard streams closed or full", day
        day = Day()
        plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
        accented = ("convert", "ROOT/größe.pth", *CPU, "-o", "ROOT/größe")
        for env in (plain, {"LC_ALL": "nowhere"}):
            self.run(day, allowed=(0,), env=env)
            self.run(
                day,
                *accented,
                allowed=(0,),
                prepare=lambda place: shutil.copy(CHECKPOINT, place.root / "größe.pth"),
                env=env,
                check=of_none,
            )
        yield "no locale", day
        day = Day()
        for jump in ("real() + random.choice((-1e5, 0, 1e5))", "0.0", "4e9", "5e9"):

            def clock(place: Place, jump=jump) -> None:
                (place.root / "sitecustomize.py").write_text(
                    f"import random, time\nreal = time.time\ntime.time = lambda: {jump}\n"
                )

            # A zip archive, such as model.keras is, has dates of 1980 to 2107 only.
            self.run(day, allowed=(0,), prepare=clock, env={"PYTHONPATH": "ROOT"})
        yield "a clock that jumps, is in 1970, in 2096, in 2128", day

    def others(self) -> Iterator[tuple[str, Day]]:
        """The other subcommands."""
        day = Day()
        picture = ("attention", self.model, self.images(3), "-o", "ROOT/pictures/a.png")
        for size in (4, 8, 16, 32, 64, 4096):

            def small(place: Place, size=size) -> None:
                tmpfs(place.root / "pictures", f"size={size}k")
                (place.root / "pictures" / "a.png").write_bytes(b"an earlier one")

            self.run(day, *picture, allowed=(0, 2), prepare=small, check=of_picture, new=True)
        yield "`attention`: the picture's disk full", day
        commands = {
            "verify": ("verify", self.file, self.model, "--no-gpu"),
            "attention": ("attention", self.model, self.images(3), "-o", "ROOT/a.png"),
            "inspect": ("inspect", CHECKPOINT),
            "lint": ("lint", self.file),
        }
        ends = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        for name, arguments in commands.items():
            started = time.monotonic()
            self.run(Day(), *arguments, allowed=(0,), new=True, check=of_none)
            seconds = time.monotonic() - started
            day = Day()
            for turn in range(max(4, self.count // 3)):
                number = ends[turn % 4]

                def send(place: Place, running, number=number) -> None:
                    running.send_signal(number)

                during = at(self.random.uniform(0, seconds), send)
                allowed = (0, 128 + number, -number)
                given = {"allowed": allowed, "during": during, "new": True, "check": of_none}
                self.run(day, *arguments, **given)
            yield f"`{name}`: SIGKILL, SIGINT, SIGTERM, SIGHUP at a random moment", day
        day = Day()
        for turn in range(max(4, self.count // 4)):

            def mount(place: Place, size=4 * (turn + 1) ** 2) -> None:
                tmpfs(place.temporary, f"size={size}k")

            given = {"allowed": (0, 2), "prepare": mount, "new": True, "check": of_none}
            for name in ("verify", "attention"):
                self.run(day, *commands[name], **given)
        yield "`verify`, `attention`: the temporary disk full", day


def tmpfs(folder: Path, options: str) -> None:
    """Makes a folder a file system of its own."""
    folder.mkdir(exist_ok=True, parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], check=True)


ALL = (
    "kill",
    "signals",
    "full",
    "folders",
    "changing",
    "together",
    "gpu",
    "surroundings",
    "others",
)


def row(title: str, day: Day) -> str:
    """A day's row of the table."""

    def told(counts: Counter) -> str:
        return ", ".join(f"{what} ({count})" for what, count in sorted(counts.items()))

    statuses = told(Counter({named(status): n for status, n in day.statuses.items()}))
    return f"| {title} | {day.runs} | {statuses} | {told(day.wrong) or 'all of it'} |"


def named(status: int) -> str:
    """An exit status as a shell has it, or the signal."""
    return str(status) if status >= 0 else signal.Signals(-status).name


def update(path: Path, rows: dict[str, str]) -> None:
    """Puts rows into a document's table, in the place of those of the same days."""
    lines = path.read_text(encoding="utf-8").splitlines()
    rows_there = ((n, line.split(" | ")) for n, line in enumerate(lines) if line[:2] == "| ")
    places = {cells[0][2:]: n for n, cells in rows_there if len(cells) == 4}
    last = max(places.values())
    new = [text for title, text in rows.items() if title not in places]
    for title, place in places.items():
        lines[place] = rows.get(title, lines[place])
    lines[last + 1 : last + 1] = new
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Runs the days that are named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="DAY", help=f"{', '.join(ALL)}. Default: all.")
    parser.add_argument("-n", type=int, default=50, help="How many random moments.")
    parser.add_argument("--update", type=Path, help="Markdown file with the table.")
    parser.add_argument("-v", action="store_true", help="Print tracebacks.")
    options = parser.parse_args()
    if unknown := set(options.names) - {*ALL}:
        parser.error(f"DAY is one of {', '.join(ALL)}. Received: {', '.join(sorted(unknown))}")
    if "ULSAM_MOUNTS" not in os.environ:
        # Mounts of its own, that nobody else sees and that end with it.
        line = ["unshare", *(() if os.geteuid() == 0 else ("--map-root-user",)), "--mount"]
        os.environ["ULSAM_MOUNTS"] = "1"
        os.execvp(line[0], [*line, sys.executable, *sys.argv])
    days = Days(ROOT / "build" / "bad_days" / str(os.getpid()), options.n)
    for name in options.names or ALL:
        for title, day in getattr(days, name)():
            print(row(title, day))
            for line, count in day.told.most_common():
                print(f"    {count:3} {line}")
            if day.kept:
                print(f"    left by SIGKILL {dict(day.kept)}")
            sys.stdout.flush()
            if options.update:
                update(options.update, {title: row(title, day)})
    shutil.rmtree(days.base, ignore_errors=True)


if __name__ == "__main__":
    main()
