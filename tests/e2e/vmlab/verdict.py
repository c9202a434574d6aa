# SPDX-License-Identifier: Apache-2.0
"""Judges what clients of a fleet saw of one guest: who had leases, and what became of writes to one
word of its memory. A history is a list of operations, each with the time before it was sent and the
time when its answer was there, of one clock:

    {"op": "grant", "host", "begin", "end", "lease", "token", "epoch"}
    {"op": "write", "host", "begin", "end", "lease", "token", "sequence", "value", "outcome", "old"}

A write's `outcome` is "ok", "unknown" (nobody has said), or the name of the error with which it was
refused; `old` is the value that it has replaced, if that was told, else None. All values differ, and
the word begins as 0. An audit log is a list of {"token", "sequence", "outcome"}, of what one host
has recorded of writes: "begun", "ok", or another outcome. A broker that is killed right after it has
answered may not have recorded the result, and says then that the write has begun.
"""


class Violation(Exception):
    """What was seen, and why it cannot be."""


def _after_each_other(operations):
    """Pairs of which the first was over before the second began: each with the one that had the
    highest token among those that were over."""
    ends = sorted(operations, key=lambda one: one["end"])
    highest, at = None, 0
    for one in sorted(operations, key=lambda each: each["begin"]):
        while at < len(ends) and ends[at]["end"] < one["begin"]:
            if highest is None or ends[at]["token"] > highest["token"]:
                highest = ends[at]
            at += 1
        if highest is not None:
            yield highest, one


def judge_grants(grants):
    """Tokens rise, and no two leases have one; epochs never come back, and are one host's each."""
    tokens, hosts = {}, {}
    for grant in grants:
        other = tokens.setdefault(grant["token"], grant)
        if other is not grant:
            raise Violation(f"two leases have one token: {other} and {grant}")
        host = hosts.setdefault(grant["epoch"], grant["host"])
        if host != grant["host"]:
            raise Violation(f"epoch {grant['epoch']} is {host}'s, and {grant['host']}'s: {grant}")
    for before, after in _after_each_other(grants):
        if after["token"] <= before["token"]:
            raise Violation(f"a token that does not rise: {before}, then {after}")
        if after["epoch"] < before["epoch"]:
            raise Violation(f"an epoch comes back: {before}, then {after}")


def judge_order(writes):
    """Nothing is applied under an older token after something was under a newer one."""
    done = [write for write in writes if write["outcome"] == "ok"]
    for before, after in _after_each_other(done):
        if after["token"] < before["token"]:
            raise Violation(f"a write under an older token: {before}, then {after}")


def judge_word(writes, final):
    """Each write that is known to be applied has replaced the one before it, and none replaced the
    same one as another; along that chain tokens do not fall. What was refused is not in it."""
    by_value = {write["value"]: write for write in writes}
    applied = [write for write in writes if write["outcome"] == "ok"]
    followers = {}
    for write in applied:
        if write["old"] is None:
            continue
        other = followers.setdefault(write["old"], write)
        if other is not write:
            raise Violation(f"two writes have replaced {write['old']}: {other} and {write}")
        before = by_value.get(write["old"])
        if write["old"] and before is None:
            raise Violation(f"nobody has written what was there before: {write}")
        if before and before["outcome"] not in ("ok", "unknown"):
            raise Violation(f"what was refused was applied: {before}, found by {write}")
        if before and before["token"] > write["token"]:
            raise Violation(f"an older token after a newer one: {before}, then {write}")
    last = by_value.get(final)
    if final and (last is None or last["outcome"] not in ("ok", "unknown")):
        raise Violation(f"the word is {final} in the end, which is {last}")
    _judge_ends(applied, followers, writes, final)


def _judge_ends(applied, followers, writes, final):
    """What nobody has replaced is the last; whoever is not known to have been applied may have
    replaced one as well."""
    loose = [write for write in applied if write["value"] not in followers and
             write["value"] != final]
    unknown = sum(write["outcome"] == "unknown" or (write["outcome"] == "ok" and
                                                    write["old"] is None) for write in writes)
    if len(loose) > unknown:
        raise Violation(f"writes were lost: nobody has replaced {loose}, the word is {final}, and "
                        f"only {unknown} may have been unseen")


def _hosts_of(audits, outcome):
    """{(token, sequence): hosts that have recorded it}"""
    found = {}
    for host, records in audits.items():
        for record in records:
            if record["outcome"] == outcome:
                found.setdefault((record["token"], record["sequence"]), []).append(host)
    return found


def judge_audits(writes, audits, kills):
    """Each write that was acknowledged is in one host's log, once; none that was refused is as
    applied. `kills`: how often a broker was killed."""
    applied, begun = _hosts_of(audits, "ok"), _hosts_of(audits, "begun")
    without_result = []
    for write in writes:
        name = (write["token"], write["sequence"])
        hosts = applied.pop(name, [])
        if len(hosts) > 1:
            raise Violation(f"a write was applied twice, by {hosts}: {write}")
        if hosts and write["outcome"] not in ("ok", "unknown"):
            raise Violation(f"a write that was refused was applied by {hosts}: {write}")
        if write["outcome"] == "ok" and not hosts:
            without_result.append(write)
            hosts = begun.get(name, [])
            if len(hosts) != 1:
                raise Violation(f"a write that was acknowledged is in the logs of {hosts}: {write}")
    if len(without_result) > kills:
        raise Violation(f"{kills} brokers were killed, and of more writes that were acknowledged "
                        f"there is no result: {without_result}")
    if applied:
        raise Violation(f"nobody has asked for what was applied: {applied}")


def judge(history, final, audits, kills):
    """Raises Violation. `final`: the word in the end; `audits`: each host's log; `kills`: how often
    a broker was killed."""
    grants = [one for one in history if one["op"] == "grant"]
    writes = [one for one in history if one["op"] == "write"]
    judge_grants(grants)
    judge_order(writes)
    judge_word(writes, final)
    judge_audits(writes, audits, kills)
