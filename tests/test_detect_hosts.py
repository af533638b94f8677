"""What holds of every captured machine, and of any contents that its files may have."""

from __future__ import annotations

import json

import pytest
from captured_hosts import HOSTS, NAMES, detected, host, sources
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anatune.errors import ProfileError
from anatune.hwprofile import dump_profile, parse_profile
from anatune.hwprofile.detect import LlvmFacts, detect_host, host_fingerprint
from anatune.hwprofile.laws import contradictions
from anatune.hwprofile.schema import facts


@pytest.mark.parametrize("name", NAMES)
def test_every_number_has_a_source_and_no_law_is_broken(name):
    profile = detected(host(name))
    assert profile.name == "host"
    assert not list(contradictions(profile, {}))
    known = {s.name: s.kind for s in profile.sources}
    cited = sources(profile)
    for path, fact, value in facts(profile):
        if value is not None and fact.sourced and not fact.repeats and fact.key != "holds":
            assert cited[".".join(path)] in known
            number = value.size_bytes if hasattr(value, "size_bytes") else value
            assert fact.low <= number <= fact.high, path
    assert set(cited.values()) == set(known), "a source is listed and not used"
    assert profile.assumed == tuple(f for f, s in cited.items() if known[s] == "assumed")


@pytest.mark.parametrize("name", NAMES)
def test_a_detected_profile_can_be_kept_as_a_file(name):
    profile = detected(host(name))
    assert parse_profile(dump_profile(profile), "host") == profile


@pytest.mark.parametrize("name", NAMES)
def test_the_readme_says_whether_a_capture_is_real(name):
    text = (HOSTS / name / "README.md").read_text(encoding="utf-8")
    assert ("A real capture" in text) != ("Constructed from documentation" in text)


JUNK = st.one_of(
    st.sampled_from(
        ["", "0", "-1", "1", "2", "9" * 30, "0-3", "1K", "16K", "4096", "max", "٣", "\0"]
    ),
    st.integers(-(2**70), 2**70).map(str),
    st.text(max_size=12),
)


LSCPU_KEYS = st.sampled_from(
    ["level", "type", "one-size", "all-size", "ways", "sets", "coherency-size"]
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), name=st.sampled_from([n for n in NAMES if n.startswith(("linux", "cont"))]))
def test_any_contents_give_a_profile_or_a_profile_error(data, name):
    system = host(name)
    paths = sorted(system.files)
    for path in data.draw(st.lists(st.sampled_from(paths), max_size=40)):
        system.files[path] = data.draw(JUNK)
    command = json.dumps(
        {"caches": data.draw(st.lists(st.dictionaries(LSCPU_KEYS, JUNK | st.integers())))}
    )
    system.run = lambda _: data.draw(st.sampled_from([command, "[]", "{", None]))
    system.facts["affinity"] = data.draw(st.none() | st.lists(st.integers(-1, 9999), max_size=3))
    features = data.draw(
        st.lists(st.sampled_from(["avx512f", "sse2", "+v", "zvl99999b", "", "sve"]))
    )
    try:
        profile = detect_host(LlvmFacts(data.draw(JUNK), "", tuple(features)), system)
    except ProfileError:
        return
    assert not list(contradictions(profile, {}))
    assert profile.usable_threads >= 1 and profile.core.caches
    assert isinstance(json.dumps(host_fingerprint(system)), str)
