"""A store whose writer is killed again and again: nothing acknowledged lost, nothing half visible, no orphan unlisted.

The body is that of the test (``tests/linkage/crashing.py``): runs, shards, consents, visits from images that take the
place of others, exports, erasures, subjects, stops. Kill ``n`` of a block falls at random into the writer's steps; how
far it is into one depends on the machine. A kill ends a process, not the machine.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from oncoscale.app.bench import hand_over
from oncoscale.core.files import write_json
from oncoscale.linkage.record import this_environment, this_software
from tests.linkage.crashing import BLOCK, STEPS, Toll, kill_again_and_again


def record(tolls: list[Toll], seconds: float) -> dict[str, Any]:
    """What came of it: kills by the step that they hit, and everything that was not as it must be."""
    killed = sum((one.killed for one in tolls), Counter[str]())
    faults = [fault for one in tolls for fault in one.faults]
    between = sum(one.between for one in tolls)
    return {
        "benchmark": "record-crashes",
        "kills": between + killed.total(),
        "stores": len(tolls),
        "killed_in_the_middle_of": dict(sorted(killed.items())),
        "killed_between_two_steps": between,
        "acknowledged": sum(one.acknowledged for one in tolls),
        "faults": faults,
        "seconds": round(seconds, 1),
        "software": this_software().id,
        "python": this_environment()["python"],
        "checks": [
            {"id": "no fault after any kill", "passed": not faults},
            {"id": "every step was hit", "passed": {step.__name__ for step in STEPS} <= killed.keys()},
        ],
    }


def main() -> int:
    """Kill, and print the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="of the first block")
    parser.add_argument("--out", type=Path, help="folder for the record")
    options = parser.parse_args()
    tolls: list[Toll] = []
    done: dict[str, Any] = record(tolls, 0.0)
    began = monotonic()
    for block in range(-(-options.kills // BLOCK)):
        kills = min(BLOCK, options.kills - block * BLOCK)
        with tempfile.TemporaryDirectory() as folder:
            tolls.append(kill_again_and_again(Path(folder), kills, Random(options.seed + block)))
        done = record(tolls, monotonic() - began)
        if options.out is not None:
            write_json(options.out / "record_crashes.json", done)
        sys.stderr.write(f"{done['kills']} kills, {len(done['faults'])} faults\n")
    return hand_over(done, options.out)


if __name__ == "__main__":
    sys.exit(main())
