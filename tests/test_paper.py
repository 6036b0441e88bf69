"""The paper's configurations against the numbers that the paper printed."""

import itertools
import json
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from pathlib import Path

import pytest

from ulsam_keras import ULSAM
from ulsam_keras.networks import BASELINES, PAPER, MobileNetV1, MobileNetV2, count

PRINTED = json.loads((Path(__file__).parent / "data" / "paper_tables.json").read_text())
ROWS = {row["id"]: row for row in PRINTED["rows"]}
NETWORKS = {"MobileNetV1": MobileNetV1, "MobileNetV2": MobileNetV2}
# The one printed number that no configuration reproduces.
UNEXPLAINED = ("mv2_G", "flops_M")


def reproduces(value, printed):
    """Whether a value prints so: the authors both rounded and truncated.

    This is stricter than within one unit of the last printed digit.
    """
    _, _, decimals = str(printed).partition(".")
    units = Decimal(str(printed)).scaleb(len(decimals))
    # Nine decimals are whole parameters and multiply-adds; the rest is binary rounding.
    scaled = Decimal(f"{value:.9f}").scaleb(len(decimals))
    return units in {
        scaled.to_integral_value(ROUND_HALF_UP),
        scaled.to_integral_value(ROUND_DOWN),
    }


def test_there_is_a_configuration_for_every_row():
    assert list(PAPER) == list(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_the_row_as_printed(name):
    row, configuration = ROWS[name], PAPER[name]
    assert (configuration.name, configuration.network) == (name, row["network"])
    assert configuration.alpha == row["alpha"]
    assert configuration.ulsam_after == tuple(row["site"].get("after", ()))
    assert configuration.ulsam_instead_of == tuple(row["site"].get("replace", ()))
    assert configuration.params_millions == str(row["published"]["params_M"])
    assert configuration.flops_millions == str(row["published"]["flops_M"])
    for data, by_splits in row["top1_top5_percent"].items():
        for splits, printed in by_splits.items():
            printed = printed if isinstance(printed, list) else [printed, None]
            assert configuration.accuracy[data][int(splits[1:])] == tuple(printed)
    assert configuration.accuracy.keys() == row["top1_top5_percent"].keys()
    assert configuration.certainty


@pytest.mark.parametrize("name", ROWS)
def test_the_count_reproduces_the_printed_numbers(name):
    published = ROWS[name]["published"]
    params, flops = PAPER[name].count_as_printed()
    assert reproduces(params, published["params_M"])
    assert reproduces(flops, published["flops_M"]) == ((name, "flops_M") != UNEXPLAINED)
    assert PAPER[name].flops_reproduced == ((name, "flops_M") != UNEXPLAINED)
    for key, value in (ROWS[name]["computed"] or {}).items():
        assert {"params_M": params, "flops_M": flops}[key] == pytest.approx(value, abs=6e-5)


@pytest.mark.parametrize("name", BASELINES)
def test_the_baselines_exact_and_as_printed(name):
    baseline, exact = BASELINES[name], PRINTED["exact_baselines"][name]
    model = baseline.build()
    counted, paper = count(model), count(model, "paper")
    assert counted.parameters == exact["params_bn"]
    assert paper.parameters == exact["params_nobn"]
    assert counted.multiply_adds == paper.multiply_adds == exact["macs"]
    assert reproduces(exact["params_nobn"] / 1e6, baseline.params_millions)
    assert reproduces(exact["macs"] / 1e6, baseline.flops_millions)
    printed = PRINTED["baseline_accuracy_percent_top1_top5"][name]
    assert {data: list(pair) for data, pair in baseline.accuracy.items()} == printed


def deltas(network, alpha):
    """What replacing each block changes: parameters and multiply-adds in millions, by hand.

    Written down from the papers' tables, so that it does not depend on the library's count.
    """
    if network == "MobileNetV2":
        shapes = {3: (24, 56), 5: (32, 28), 8: (64, 14), 12: (96, 14), 15: (160, 7)}
        repeats = {3: [3], 5: [5, 6], 8: [8, 9, 10], 12: [12, 13], 15: [15, 16]}
    else:
        shapes = {3: (128, 56), 5: (256, 28), 7: (512, 14), 13: (1024, 7)}
        repeats = {3: [3], 5: [5], 7: [7, 8, 9, 10, 11], 13: [13]}
    result = {}
    for first, blocks in repeats.items():
        channels, size = int(shapes[first][0] * alpha), shapes[first][1]
        if network == "MobileNetV2":
            hidden = 6 * channels
            block = 2 * channels * hidden + 9 * hidden
        else:
            block = 9 * channels + channels * channels
        change = 2 * channels - block
        result |= dict.fromkeys(blocks, (change / 1e6, change * size**2 / 1e6))
    return result


def fitting_sets(row, keys=("params_M", "flops_M")):
    """All sets of replaced blocks that give the row's printed numbers."""
    changes = deltas(row["network"], row["alpha"])
    (baseline,) = (
        b for b in BASELINES.values() if (b.network, b.alpha) == (row["network"], row["alpha"])
    )
    start = {
        "params_M": float(baseline.params_millions),
        "flops_M": float(baseline.flops_millions),
    }
    fits = []
    for size in range(len(changes) + 1):
        for blocks in itertools.combinations(changes, size):
            params, flops = (sum(changes[block][i] for block in blocks) for i in (0, 1))
            found = {"params_M": start["params_M"] + params, "flops_M": start["flops_M"] + flops}
            if all(reproduces(found[key], row["published"][key]) for key in keys):
                fits.append(blocks)
    return fits


@pytest.mark.parametrize("name", [name for name in ROWS if "replace" in ROWS[name]["site"]])
def test_what_is_certain_of_the_replaced_blocks(name):
    """Only blocks of the same shapes fit, and where it says "no other" there is no other set."""
    row, configuration = ROWS[name], PAPER[name]
    fits = fitting_sets(row)
    if (name, "flops_M") == UNEXPLAINED:
        # No set of replaced bottlenecks gives 224.16 M with 2.54 M parameters.
        assert fits == []
        assert configuration.ulsam_instead_of in fitting_sets(row, ["params_M"])
        return
    changes = deltas(row["network"], row["alpha"])
    assert configuration.ulsam_instead_of in fits
    assert len({tuple(changes[block] for block in blocks) for blocks in fits}) == 1
    assert configuration.certainty.startswith("Certain: ") == (len(fits) == 1)


def test_building_takes_the_networks_arguments():
    model = PAPER["mv2_G_in1k"].build(8, classes=10, input_shape=(32, 32, 3), dropout=0)
    sites = [layer for layer in model.layers if isinstance(layer, ULSAM)]
    assert [layer.name for layer in sites] == [f"block_{i}_ulsam" for i in (12, 13, 15, 16)]
    assert {layer.num_splits for layer in sites} == {8}
    assert model.name == "mv2_G_in1k"
    assert model.output_shape == (None, 10)


def test_a_configuration_can_be_counted():
    counted = count(PAPER["mv1_sub_0.50"], "paper")
    assert counted == count(PAPER["mv1_sub_0.50"].build(), "paper")


def test_configurations_cannot_be_changed():
    with pytest.raises(TypeError):
        PAPER["mine"] = PAPER["mv2_B"]
    with pytest.raises(AttributeError):
        PAPER["mv2_B"].ulsam_after = (3,)
