"""Detection on Linux, replayed from captured trees."""

from __future__ import annotations

import re

import pytest
from captured_hosts import KIB, MIB, detected, geometry, host, rewrite, sources

from anatune.errors import ProfileError
from anatune.hwprofile.detect import LlvmFacts, detect_host, host_fingerprint
from anatune.hwprofile.laws import contradictions


def test_zen5_guest():
    profile = detected(host("linux_zen5_vm"))
    core = profile.core
    assert geometry(core) == [
        (48 * KIB, 12, 64, 64, 1),
        (1 * MIB, 16, 1024, 64, 1),
        (32 * MIB, 16, 32768, 64, 2),
    ]
    assert (core.count, core.threads_each, core.cpus) == (2, 1, (0, 1))
    assert (core.vector_bits, core.vector_registers) == (512, 32)
    assert (core.fma_per_cycle, core.fma_latency_cycles) == (2, 4)
    assert core.clock_one_hz is None and core.clock_all_hz is None
    assert profile.virtualized and profile.usable_threads == 2 and not profile.assumed
    assert profile.memory.size_bytes == 24684092 * KIB
    assert (profile.brand, profile.target.mcpu) == ("AMD EPYC", "znver5")
    assert core.caches[2].holds == "victims"


def test_width_is_what_llvm_and_the_kernel_both_list():
    system = host("linux_zen5_vm")
    masked = re.sub(r"avx512\w*|avx_vnni", "", system.files["/proc/cpuinfo"])
    system.files["/proc/cpuinfo"] = masked
    profile = detected(system)
    core = profile.core
    assert (core.vector_bits, core.vector_registers, core.fma_per_cycle) == (256, 16, 2)
    assert "avx2" in profile.target.features
    assert not [f for f in profile.target.features if f.startswith(("avx512", "avxvnni"))]


def test_a_flag_counts_only_where_every_processor_has_it():
    system = host("linux_zen5_vm")
    first, second = system.files["/proc/cpuinfo"].split("\n\n", 1)
    system.files["/proc/cpuinfo"] = first + "\n\n" + re.sub(r"avx512\w*", "", second)
    assert detected(system).core.vector_bits == 256


def test_zen5_by_name_alone_does_not_claim_the_wide_data_path():
    system = host("linux_zen5_vm")
    system.files["/proc/cpuinfo"] = re.sub(
        r"model\t\t: 2", "model\t\t: 36", system.files["/proc/cpuinfo"]
    )
    core = detected(system).core
    assert core.vector_bits == 512
    assert core.fma_per_cycle is None and core.loads_per_cycle is None
    assert core.fma_latency_cycles == 4


def test_alder_lake_has_two_kinds_and_favoured_cores_make_no_third():
    profile = detected(host("linux_alder_lake"))
    fast, small = profile.cores
    assert (fast.name, fast.count, fast.threads_each, fast.cpus) == (
        "golden_cove", 8, 2, tuple(range(16)),
    )  # fmt: skip
    assert (small.name, small.count, small.threads_each) == ("gracemont", 4, 1)
    assert geometry(fast) == [
        (48 * KIB, 12, 64, 64, 1),
        (1280 * KIB, 10, 2048, 64, 1),
        (25 * MIB, 10, 40960, 64, 12),
    ]
    assert geometry(small)[:2] == [(32 * KIB, 8, 64, 64, 1), (2 * MIB, 16, 2048, 64, 4)]
    assert (fast.clock_one_hz, fast.clock_all_hz) == (4.9e9, 2.1e9)
    assert (fast.vector_bits, fast.vector_registers) == (256, 16)
    assert (fast.fma_per_cycle, small.fma_per_cycle) == (2, 1)
    assert sources(profile)["cores.golden_cove.clock.one_core"] == "nominal_clock"
    assert profile.usable_threads == 20 and not profile.virtualized


@pytest.mark.parametrize(
    ("name", "silent", "fastest"),
    [
        ("linux_alder_lake", "cpufreq|cpu_capacity", "golden_cove"),
        ("linux_big_little_no_sizes", "cpufreq", "cortex_a76"),
        ("linux_big_little_no_sizes", "cpu_capacity", "cortex_a76"),
    ],
)
def test_the_fastest_kind_comes_first_by_whatever_the_system_tells(name, silent, fastest):
    assert detected(rewrite(host(name), silent, None)).core.name == fastest


def test_a_kind_out_of_reach_is_left_out():
    system = host("linux_alder_lake")
    system.facts["affinity"] = [16, 17]
    profile = detected(system)
    assert [core.name for core in profile.cores] == ["gracemont"]
    assert profile.core.cpus == (16, 17) and profile.usable_threads == 2
    assert profile.core.caches[2].cores == 4  # only the cores of the profile are counted


def test_llvm_s_name_does_not_describe_the_small_cores():
    system = host("linux_big_little_no_sizes")
    system.files["/proc/cpuinfo"] = system.files["/proc/cpuinfo"].replace("0xd05", "0xfff")
    system.facts["affinity"] = [0]
    profile = detected(system)
    assert profile.core.name == "efficiency" and profile.core.tlb is None
    assert "cores.efficiency.caches.1.ways" in profile.assumed


def test_big_little_without_sizes_takes_the_table_by_part_number():
    profile = detected(host("linux_big_little_no_sizes"))
    big, little = profile.cores
    assert [(c.name, c.count, c.cpus) for c in profile.cores] == [
        ("cortex_a76", 4, (4, 5, 6, 7)),
        ("cortex_a55", 4, (0, 1, 2, 3)),
    ]
    assert geometry(big) == [(64 * KIB, 4, 256, 64, 1), (256 * KIB, 8, 512, 64, 1)]
    assert geometry(little)[0] == (32 * KIB, 4, 128, 64, 1)
    assert sources(profile)["cores.cortex_a76.caches.1.ways"] == "uarch_cortex_a76"
    assert big.clock_one_hz == 2.4e9 and profile.brand == "Radxa ROCK 5B"
    assert (big.vector_bits, big.vector_registers) == (128, 32)


def test_capacity_tells_kinds_apart_only_where_nothing_names_the_silicon():
    system = rewrite(host("linux_big_little_no_sizes"), "cpuinfo$", "")
    assert [core.count for core in detected(system).cores] == [2, 2, 4]


def test_raspberry_pi_without_cache_folder():
    profile = detected(host("linux_raspberry_pi_4"))
    assert geometry(profile.core) == [(32 * KIB, 2, 256, 64, 1), (1 * MIB, 16, 1024, 64, 4)]
    assert profile.brand == "Raspberry Pi 4 Model B Rev 1.4"
    assert profile.core.stores_per_cycle is None, "not sure of it: a probe shall measure it"


def test_unknown_core_without_caches_gets_assumed_ones_and_says_so():
    system = host("linux_raspberry_pi_4")
    text = system.files["/proc/cpuinfo"].replace("0xd08", "0xfff")
    system.files["/proc/cpuinfo"] = text
    system.facts["llvm"]["mcpu"] = "generic"
    profile = detected(system)
    assert geometry(profile.core) == [(32 * KIB, 8, 64, 64, 1), (256 * KIB, 8, 512, 64, 1)]
    assert "cores.generic.caches.1.ways" in profile.assumed
    assert "cores.generic.count" not in profile.assumed


def test_lscpu_fills_what_sysfs_leaves_open():
    system = rewrite(host("linux_zen5_vm"), "/cache/", None)
    profile = detected(system)
    assert geometry(profile.core) == geometry(detected(host("linux_zen5_vm")).core)
    assert sources(profile)["cores.zen5.caches.3.cores"] == "lscpu"


def test_lscpu_is_not_started_where_sysfs_says_all(monkeypatch):
    system = host("linux_zen5_vm")
    monkeypatch.setattr(system, "run", lambda command: pytest.fail(f"started {command}"))
    monkeypatch.setattr(system, "py_cpuinfo", lambda: pytest.fail("asked py-cpuinfo"))
    detected(system)


def test_amd_smt_and_two_instances_of_l3():
    core = detected(host("linux_amd_two_l3")).core
    assert (core.count, core.threads_each, len(core.cpus)) == (16, 2, 32)
    assert [c.cores for c in core.caches] == [1, 1, 8]
    assert core.caches[2].size_bytes == 32 * MIB


def test_unequal_sharing_counts_the_largest():
    system = rewrite(host("linux_amd_two_l3"), "cpu(8|9)/cache/index3/shared_cpu_list", "8-9")
    rewrite(system, "cpu0/cache/index3/shared_cpu_list", "0,16")
    core = detected(system).core
    assert core.count == 16 and core.caches[2].cores == 8


def test_riscv_ways_follow_from_size_sets_and_line():
    profile = detected(host("linux_riscv_no_ways"))
    assert geometry(profile.core) == [(32 * KIB, 4, 128, 64, 1), (512 * KIB, 16, 512, 64, 4)]
    assert sources(profile)["cores.spacemit_x60.caches.1.ways"] == "sysfs"
    assert (profile.core.vector_bits, profile.core.vector_registers) == (256, 32)


def test_riscv_kernel_without_v_leaves_scalars():
    system = host("linux_riscv_no_ways")
    text = system.files["/proc/cpuinfo"].replace("rv64imafdcv", "rv64imafdc")
    system.files["/proc/cpuinfo"] = text
    assert detected(system).core.vector_bits == 32


def test_absurd_values_fall_through_to_assumed_ones():
    profile = detected(host("linux_absurd"))
    assert geometry(profile.core) == [(32 * KIB, 8, 64, 64, 1), (256 * KIB, 8, 512, 64, 1)]
    assert profile.core.clock_one_hz is None and profile.memory.size_bytes is None
    assert profile.usable_threads == 2
    assert "cores.x86_64.caches.1.ways" in profile.assumed


@pytest.mark.parametrize(
    ("file", "text", "expected", "source"),
    [
        # Where the four contradict each other, ways and sets are what firmware gets wrong.
        ("index0/number_of_sets", "128", (48 * KIB, 12, 64, 64), "uarch_zen5"),
        ("index0/ways_of_associativity", "0", (48 * KIB, 12, 64, 64), "sysfs"),
        ("index0/ways_of_associativity", None, (48 * KIB, 12, 64, 64), "sysfs"),
        ("index0/coherency_line_size", "48", (48 * KIB, 12, 64, 64), "sysfs"),
        ("index0/size", None, (48 * KIB, 12, 64, 64), "sysfs"),
        ("index0/size", "512K", (48 * KIB, 12, 64, 64), "sysfs"),
    ],
)
def test_one_wrong_number_is_mended(file, text, expected, source):
    system = rewrite(host("linux_zen5_vm"), file, text)
    system.facts["commands"] = {}
    profile = detected(system)
    assert geometry(profile.core)[0][:4] == expected
    assert sources(profile)["cores.zen5.caches.1.ways"] == source


def test_second_level_smaller_than_the_first_is_not_believed():
    system = rewrite(host("linux_zen5_vm"), "index2/size", "32K")
    rewrite(system, "index2/(number_of_sets|ways_of)", "0")
    system.facts["commands"] = {}
    profile = detected(system)
    assert geometry(profile.core)[1] == (1 * MIB, 16, 1024, 64, 1)
    assert sources(profile)["cores.zen5.caches.2.sets"] == "uarch_zen5"


def test_no_hybrid_and_no_flags_on_an_unknown_isa_is_a_profile_error():
    system = host("linux_zen5_vm")
    system.facts["machine"] = "ppc64le"
    with pytest.raises(ProfileError, match="machine: 'ppc64le' is not one of"):
        detected(system)


def test_py_cpuinfo_names_what_linux_does_not():
    system = host("linux_absurd")
    system.facts["py_cpuinfo"] = {"brand_raw": "Some  CPU\n", "l2_cache_size": 1}
    assert detected(system).brand == "Some CPU"
    system = host("linux_alder_lake")
    system.facts["py_cpuinfo"] = {"brand_raw": "Some CPU"}
    assert detected(system).brand == "12th Gen Intel(R) Core(TM) i7-12700"


@pytest.mark.parametrize(
    ("path", "text", "guest"),
    [
        ("/sys/hypervisor/type", "xen", True),
        ("/sys/hypervisor/type", "", False),
        ("/sys/class/dmi/id/sys_vendor", "QEMU", True),
        ("/sys/class/dmi/id/sys_vendor", "Amazon EC2", True),
        ("/sys/class/dmi/id/sys_vendor", "LENOVO", False),
        ("/sys/firmware/devicetree/base/hypervisor/compatible", "linux,kvm", True),
    ],
)
def test_an_arm_guest_shows_in_firmware_or_device_tree(path, text, guest):
    system = host("linux_raspberry_pi_4")
    system.files[path] = text
    assert detected(system).virtualized is guest


def test_bare_metal_of_a_cloud_is_no_guest():
    system = host("linux_raspberry_pi_4")
    system.files["/sys/class/dmi/id/sys_vendor"] = "Amazon EC2"
    system.files["/sys/class/dmi/id/product_name"] = "c7g.metal"
    assert not detected(system).virtualized


def test_sve_width_comes_from_the_table_and_is_128_where_that_is_silent():
    system = host("linux_raspberry_pi_4")
    text = system.files["/proc/cpuinfo"].replace("asimd ", "asimd sve ")
    system.facts["llvm"]["features"] = ["+neon", "+sve"]
    for part, bits in (("0xd40", 256), ("0xd4f", 128), ("0xfff", 128)):
        system.files["/proc/cpuinfo"] = text.replace("0xd08", part)
        assert detected(system).core.vector_bits == bits


def test_the_machine_that_runs_the_tests():
    profile = detect_host(LlvmFacts("generic", ""))
    assert not list(contradictions(profile, {}))
    assert profile.usable_threads >= 1 and host_fingerprint() == host_fingerprint()
