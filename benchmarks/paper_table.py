"""The rows of the paper's tables beside what the configurations of `networks.PAPER` count.

python benchmarks/paper_table.py
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def main():
    """Prints the table."""
    from ulsam_keras.networks import PAPER

    print("| row | params printed | counted | FLOPs printed | counted | |")
    print("|---|---|---|---|---|---|")
    for name, row in PAPER.items():
        params, flops = (value / 1e6 if value > 1e5 else value for value in row.count_as_printed())
        verdict = "reproduced" if row.flops_reproduced else "FLOPs not reproduced by any sites"
        print(
            f"| {name} | {row.params_millions} M | {params:.4f} M | {row.flops_millions} M "
            f"| {flops:.4f} M | {verdict} |"
        )


if __name__ == "__main__":
    main()
