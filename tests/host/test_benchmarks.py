"""Every benchmark runs at a tiny size and ends in JSON that says what it was measured on."""

import json
import os
import subprocess
import sys

from conftest import ROOT

GROUND = {"benchmark", "date", "device", "torch", "host", "attention", "commit", "shape", "figures"}


def bench(name: str, *arguments: str, timeout: int = 240) -> dict:
    """The JSON of a benchmark's last line."""
    command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # models this small gain none
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    outcome = json.loads(done.stdout.splitlines()[-1])
    assert outcome.keys() == GROUND
    return outcome["figures"]


def test_gpu_measures_every_section_at_toy_size(tmp_path):
    out = tmp_path / "gpu.json"
    figures = bench("gpu", "--toy", "--out", str(out))
    assert not [name for name, section in figures.items() if "error" in str(section)]
    sections = {"matmul", "kernel", "rivals", "tiers", "split", "compiled", "decoding"}
    assert sections <= figures.keys()
    assert figures["memory"]["skipped"] and figures["graphs"]["skipped"]  # of a GPU
    assert figures["minutes"].keys() == sections | {"memory", "graphs", "all"}
    for name in ("gpu model", "cpu model", "gpu fp8", "cpu fp8"):
        assert figures["tiers"][name]["seconds_per_chunk"] > 0
    for part in figures["split"].values():
        assert 0 < part["kernel_seconds"] < part["self_attention_seconds"]
        assert part["self_attention_seconds"] < part["seconds_per_chunk"]
    assert figures["conclusions"]["relaxed_over_floor"] > 1
    assert json.loads(out.read_text())["figures"] == figures


def test_memory_finds_constant_bytes_only_where_memory_is_bounded():
    held = bench("memory", "--layers", "2", "--videos", "5 s", "30 s")["held"]
    frames = {
        name: {video: row[video]["held_frames"] for video in row} for name, row in held.items()
    }
    fixed = 10  # text and angles, which in so few layers weigh as much as some frames
    native = frames["host's SamplerARVideo"]
    assert 21 <= native["5 s"] < 21 + fixed
    assert 120 <= native["30 s"] < 120 + fixed
    assert 120 <= frames["reservoir, 120 frames"]["30 s"] < 121 + fixed
    assert 40 < frames["relaxed memory, gpu, model"]["30 s"] < 42 + fixed
    assert frames["relaxed memory, gpu, fp8"]["30 s"] < frames["relaxed memory, gpu, model"]["30 s"]
    for device in ("gpu", "cpu"):
        row = held[f"relaxed memory, {device}, model"]["30 s"]
        assert row["held_bytes"] > row["in_banks_bytes"] > 0


def test_the_rollout_is_compared_with_the_hosts_at_each_length():
    lengths = bench(
        "rollout_vs_native", "--size", "48", "32", "--layers", "1", "--frames", "9", "90"
    )
    assert lengths["lengths"].keys() == {"9", "90"}
    for frames, row in lengths["lengths"].items():
        assert row["native"]["key_value_frames"] == int(frames)
        assert row["speedup"] > 0
    assert lengths["lengths"]["90"]["relaxed"]["key_value_frames"] < 40
    assert "growth_from_10_percent" in lengths["lengths"]["90"]["relaxed"]


def test_fewer_steps_are_measured_beside_four():
    sides = bench("few_steps", "--size", "48", "32", "--layers", "1", "--chunks", "3")
    passes = {"4 steps": 5, "2 steps": 3, "1 step": 2, "4 steps, no clean pass": 4}
    assert {name: side["passes"] for name, side in sides.items()} == passes
    assert all(side["seconds_per_chunk"] > 0 for side in sides.values())


def test_ten_shots_are_measured_beside_one_prompt():
    arguments = ("--size", "48", "32", "--layers", "1", "--chunks", "20", "--sides", "recache")
    sides = bench("ten_shots", *arguments, "--rounds", "2")
    assert {name: side["passes"] for name, side in sides.items()} == {
        "one prompt": 99,
        "recache": 108,
    }
    assert sides["recache"]["shot_percent_over"][0] > 0


def test_the_overlap_is_measured_against_both_parts_and_both_in_turn():
    arguments = ("--size", "32", "32", "--dim", "128", "--layers", "1", "--chunks", "2")
    figures = bench("overlap", *arguments, "--runs", "1")
    assert figures["seconds"].keys() == {"sampling alone", "decoding alone", "in turn", "at once"}
    assert all(
        figures["cores_used"][name] > 0 < figures["seconds"][name] for name in figures["seconds"]
    )
    assert figures["speedup"] > 0


def test_the_soak_reports_a_slope_for_everything_that_could_grow():
    arguments = ("--chunks", "40", "--warm-up", "20", "--every", "10")
    runs = bench("soak", *arguments, "--runs", "relaxed, cpu", "dense window")["runs"]
    assert runs.keys() == {"relaxed, cpu", "dense window"}
    for run in runs.values():
        assert {"resident_bytes", "tensors", "tensor_bytes", "open_handles"} < run.keys()
        assert run["open_handles"]["slope_per_100_chunks"] == 0
        assert run["tensor_bytes"]["last"] <= 1.02 * run["tensor_bytes"]["first"]
        assert run["seconds_per_chunk"]["median"] > 0


def test_the_laboratory_has_every_figure_of_every_policy():
    policies = ("everything", "relaxed (paper)", "no tail")
    figures = bench("policy_lab", "--pairs", "2", "--seconds", "3", "--policies", *policies)
    assert figures["seconds"] == [1]
    assert figures["policies"].keys() == set(policies)
    for line in figures["policies"].values():
        assert {"main_right", "colour_changed", "motion_ratio", "lost", "split"} < line.keys()
        assert line["seconds_per_chunk_and_video"] > 0 < line["held_bytes"]
    paper = figures["policies"]["relaxed (paper)"]["more_than_paper"]
    assert paper["main_right"] == [0, 0]
    held = [figures["policies"][name]["held_bytes"] for name in policies]
    assert held[0] > held[1] >= held[2]


def test_prompts_are_followed_from_the_first_second():
    (figures,) = bench("prompts", "--prompts", "8", "--seconds", "4").values()
    assert [figures[kind]["of"] for kind in ("all", "one thing", "two things")] == [8, 4, 4]
    assert figures["all"]["right"] >= 6


def test_a_cut_is_measured_as_the_host_decodes_it_and_as_we_do():
    figures = bench("cuts", "--pairs", "1", "--seen-again", "1", "9")
    ghost = figures["one decoder for all, mean by picture"]
    assert ghost["1"] > 10 > ghost["16"]
    largest = [row["largest"] for row in figures["seen again"].values()]
    assert largest == sorted(largest, reverse=True)
    assert figures["seen again"]["9"]["largest"] < 0.5


def test_the_film_laboratory_has_every_figure_of_every_transition():
    arguments = ("--pairs", "2", "--memories", "window of 21", "--away", "--chunks", "1", "1")
    figures = bench("film_lab", *arguments)
    transitions = figures["switches"]["window of 21"]
    assert {"old words only", "new words only", "keep", "recache", "cut"} < transitions.keys()
    assert transitions["old words only"]["right_at_the_end"] == [0, 0]
    assert transitions["new words only"]["right_at_the_end"][0] > 0.3
    assert transitions["keep"]["motion_before"] == transitions["old words only"]["motion_before"]
    assert "there_seconds" in transitions["cut"]["more_than_keep"]


def test_recache_is_nearer_to_remembering_everything_anew_than_keep_is():
    (spans,) = bench("recache", "--pairs", "2", "--at", "2").values()
    assert spans["0"]["chunk 1"][0] > spans["2"]["chunk 1"][0] == 0  # two chunks are all


def test_steering_compares_all_bits_and_tells_what_it_costs():
    small = ("--edits", "3", "--chunks", "8", "--film-chunks", "4", "--pairs", "1", "--layers", "1")
    figures = bench("steering", *small, timeout=600)
    drawn = figures["random edits"]
    assert 0 < drawn["edits"] <= 3  # some may come after the end
    assert drawn["identical"] == dict.fromkeys(drawn["identical"], True)
    assert drawn["steps sampled when queued again"] == 0
    assert 0 < figures["listening"]["largest share"] < 0.005
    for edits in figures["one edit"].values():
        passes = {name: edit["passes more"] for name, edit in edits.items()}
        assert passes.pop("a moment of the first second") == 1
        assert passes == {"keep": 0, "blend": 0, "cut": 0, "recache": 0}
