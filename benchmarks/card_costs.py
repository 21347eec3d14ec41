"""What a steady chunk costs a card beside five plain passes, at the real size of Wan 1.3B.

Counted on the simulated card of `tests/device`, by shapes alone and extrapolated to thirty layers:
launches and bytes of the stream that computes, bytes over PCIe, waits of the host. A copy of many
tensors at once counts as the launches that torch makes of it. Last line: JSON.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))

import conftest  # noqa: F401  (the host, before all that is named like it)

# isort: split
from device import figures

# isort: split
import common


def row(ours: dict, theirs: dict) -> dict:
    """Figures of a chunk and of the plain passes that it is compared with."""
    over = {key: round(100 * (ours[key] / theirs[key] - 1), 2) for key in ("launches", "bytes")}
    return {
        "launches": ours["launches"],
        "gigabytes": round(ours["bytes"] / 1e9, 1),
        "percent_over_plain": over,
        "pcie_gigabytes": round(ours["copied"] / 1e9, 3),
        "waits": ours["waits"],
        "plain": {"launches": theirs["launches"], "gigabytes": round(theirs["bytes"] / 1e9, 1)},
    }


def main() -> None:
    options = common.arguments(__doc__)
    options.add_argument("--size", choices=figures.SIZES, default="832x480")
    options = options.parse_args()
    rows = {}
    for name, (memory, inputs) in figures.REGIMES.items():
        ours = figures.relaxed(memory, options.size, **inputs)
        rows[name] = row(ours, figures.plain(options.size, **inputs))
        print(name, rows[name], flush=True)
    common.finish(common.result("card_costs", common.WAN_1_3B, rows), save=options.save)


if __name__ == "__main__":
    main()
