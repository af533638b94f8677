"""Which records are meant: by workload, profile, outcome, date, machine or version (rank 7)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from anatune.errors import OptionError
from anatune.measure.outcome import Outcome
from anatune.records.record import Record
from anatune.units import clip

AGES = {"min": "minutes", "h": "hours", "d": "days", "w": "weeks"}
"""Units of an age -> what `timedelta` calls them."""

_AGE = re.compile(rf"(\d{{1,6}}) ?({'|'.join(AGES)})", re.ASCII)
_EXTENTS = re.compile(r"(\d+) (\d+) (\d+)", re.ASCII)
_SEPARATORS = re.compile(r"[ ,;()\[\]]+")


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Records that have all that is stated; what is left empty is of no weight.

    Attributes:
        words: each is in the workload's text; three extents in a row are M, N, K.
        profile: its name, or how the hash of its facts begins.
        since, before: when they were written.
        host: how the machine's fingerprint begins, a part of its processor's name, or a device.
        version: anatune's or TVM's.
    """

    words: tuple[str, ...] = ()
    profile: str = ""
    outcome: Outcome | None = None
    since: datetime | None = None
    before: datetime | None = None
    host: str = ""
    version: str = ""

    @property
    def is_narrow(self) -> bool:
        """Whether anything is stated at all."""
        return self != Selection()

    def takes(self, record: Record) -> bool:
        profile, origin = record.profile, record.origin
        return (
            (self.outcome in (None, record.outcome))
            and (self.since is None or record.when >= self.since)
            and (self.before is None or record.when < self.before)
            and (self.profile == profile.name or profile.hash.startswith(self.profile))
            and (self.version in ("", origin.anatune, origin.tvm))
            and self._takes_host(record)
            and self._takes_workload(record.workload)
        )

    def _takes_host(self, record: Record) -> bool:
        origin = record.origin
        of_cpu = self.host.lower() in origin.cpu.lower()
        return of_cpu or origin.host.startswith(self.host) or self.host == origin.device

    def _takes_workload(self, text: str) -> bool:
        if not self.words:
            return True
        stated = _SEPARATORS.split(text)
        wanted = _EXTENTS.sub(r"\1x\2x\3", " ".join(self.words))
        return all(_is_in(word, stated) for word in _SEPARATORS.split(wanted.strip()))


def _is_in(word: str, stated: list[str]) -> bool:
    """Whether a word is one of those stated; without a digit, a part of one will do."""
    whole = any(letter.isdecimal() for letter in word)
    return any(word == one or (not whole and word in one) for one in stated)


def moment(text: str, now: datetime | None = None) -> datetime:
    """A date such as 2026-11-21 or 2026-11-21T08:30 (UTC), or so long ago: 12h, 30d.

    Raises:
        OptionError: neither.
    """
    wanted = f"date = {clip(text)}: a date such as 2026-11-21, or an age such as 12h or 30d"
    try:
        if age := _AGE.fullmatch(text.strip()):
            return (now or datetime.now(timezone.utc)) - timedelta(
                **{AGES[age[2]]: int(age[1])}
            )
        found = datetime.fromisoformat(text.strip())
        return found if found.tzinfo else found.replace(tzinfo=timezone.utc)
    except (ValueError, OverflowError):
        raise OptionError(wanted) from None


def outcome_named(text: str) -> Outcome:
    """The outcome of that name. Raises OptionError for another one."""
    try:
        return Outcome(text)
    except ValueError:
        known = ", ".join(repr(outcome.value) for outcome in Outcome)
        raise OptionError(f"outcome = {clip(text)}: one of {known}") from None
